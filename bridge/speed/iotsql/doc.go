// Package iotsql compiles and evaluates rule statements in the SQL dialect of
// AWS IoT rules, and the substitution templates of rule actions.
//
// Compile turns a text into a Statement, Eval runs it over an Input and
// appends the document that the rule's actions receive. CompileTemplate does
// the same for the ${…} of an action's parameters. Explain says why a rule
// fires or doesn't.
//
//	s, err := iotsql.Compile("SELECT temp, topic(2) AS thing FROM 'dt/#' WHERE temp > 30", "2016-03-23")
//	...
//	m := message.Message{Topic: "dt/boiler/room", Payload: payload}
//	doc, fired, err := s.Eval(ctx, nil, &iotsql.Input{Message: m})
//
// # The dialect
//
//	[SET @name = expr, ...]
//	SELECT expr [AS name], ... | VALUE expr
//	[FROM 'topic/filter']
//	[WHERE expr]
//
// * is an expression: the payload, or in a nested query its element. In a list
// * and path.* without a name stand for the members of an object.
//
// Expressions have, tightest first: paths (a.b.c), unary minus, * / %, + -,
// comparisons (= <> != < <= > >= IN), NOT, AND, OR; CASE v WHEN t THEN r ELSE e
// END, CAST(x AS type), array and object literals, nested queries over a
// member ((SELECT ... FROM member [AS e] WHERE ...)), EXISTS (...) and the
// functions of the AWS reference. Wrong types never fail: they yield Undefined,
// which vanishes from objects and, as a condition, doesn't fire. Compile refuses
// unknown functions and wrong numbers of arguments; Check finds the wrong types
// that are certain whatever the message.
//
// Functions that reach outside the engine (get_thing_shadow, get_dynamodb,
// get_secret, get_registry_data, aws_lambda, machinelearning_predict, decode of
// protobuf) ask Services. A statement that asks one that isn't there is refused
// while compiling.
//
// # How payloads are read
//
// A payload is scanned once, and only if the statement needs more than its
// bytes. The scan finds the members that the statement names and checks the
// whole against RFC 8259, UTF-8 included; what isn't JSON has no attributes. No
// tree is built. What follows:
//   - Names are case-sensitive. Of members with the same name the last wins,
//     also within nested objects.
//   - A member that is only copied keeps its text: escapes, space inside it,
//     and the spelling of numbers, except that 2016-03-23 makes 10 of 10.0
//     where the number is an item by itself. Its string form, which is what
//     length and hashes see, has neither such escapes nor space.
//   - A lone * hands on the payload's very bytes. * with other items copies
//     the members' text, members that occur twice included, without the ones
//     that an alias replaces. It stands for nothing when the payload is no
//     object, which Result.Unmerged tells: the guide lists SELECT *, principal()
//     for binary payloads, but says of empty and JSON payloads only that data
//     is added to them. * AS name keeps such a payload; of one that isn't JSON
//     it is the base64 text, as is * within any expression.
//   - encode(*, ...) and decode(*, 'proto', ...) take the payload's bytes.
//   - An empty payload has no attributes.
//
// # Numbers
//
// Numbers are decimal and exact, up to 34 significant digits and from 1E-999
// to 9.99...E999; more digits are rounded half to even, beyond the range is
// Undefined. The functions the reference computes in double precision (sqrt,
// sin, power, ...) do so here.
//
// # Readings
//
// Where the AWS guide is silent or contradicts itself we chose:
//   - Int / Int is cut towards zero; % has the dividend's sign; a zero divisor
//     gives Undefined; halves round away from zero; the bit functions take
//     negative Ints in two's complement.
//   - false AND Undefined, true OR Undefined: Undefined, as the guide's table
//     has it, though rules are deployed that count on a short circuit. Explain
//     notes it; isUndefined and get_or_default ask first. Null = Null: true.
//     A String "true" fires a WHERE.
//   - A path without alias goes by its last name, a call by the function's
//     name as written, any other expression needs AS. A dotted alias makes
//     nested objects. Of items with the same name the last that isn't Undefined
//     wins.
//   - Of *, path.* and names that have the same member the last wins.
//   - SELECT value - 1 AS v has the member called value, SELECT VALUE -1 the
//     keyword: what stands for a product, a comparison or gets a name is the
//     member. AS behind SELECT VALUE names nothing. An Array or an Object may
//     have a comma behind its last element.
//   - A doubled quote within a string in the same quotes stands for one; a
//     backslash stands for itself. FROM takes either kind of quotes.
//   - In a nested query names are the element's members or the aliases around,
//     never the payload's. Undefined results are left out, of array literals too.
//   - indexof without a match is -1, regexp_substr Undefined; length counts
//     code points; get and topic floor their index.
//   - decode of anything but base64 of UTF-8 text is Null.
//   - In transform's enrichArray the object's members win over the element's.
//   - In a template Undefined and Null leave nothing.
//   - A service that fails is told to Services.Failed, and its function is
//     Undefined; so is one whose arguments name nothing. A key value of
//     get_dynamodb is a String or a number.
//   - aws_lambda gets a payload that isn't JSON as a String of base64.
//     machinelearning_predict gets nested documents as compact JSON.
//   - get_secret yields a secret that is a JSON object as such, any other as a
//     String. get_or_default catches the failure for a key of such a secret; it
//     does not catch a second get_dynamodb.
//   - A variable is refused in the role and the mode of encode, decode,
//     transform and the functions that reach outside.
//
// decode of protobuf follows the ProtoJSON format: 64-bit integers are Strings,
// enums their names, bytes base64, maps objects, timestamps and the other
// well-known types their own forms; a field without presence that has its
// default is left out, and so are unknown fields and extensions. Members have
// the fields' names as the file spells them (sensor_id, as in the guide's
// example of SET). The file may go without ".proto" and the message without its
// package. What is no such message is Null. Descriptor sets are asked for anew
// after ten seconds of use at the earliest.
//
// # Regular expressions
//
// Patterns and replacements have the meaning of java.util.regex (Java 17): the
// reference service is Java-based. Package javaregexp says what that is, and
// what is left out. A group that doesn't exist in a replacement gives Undefined,
// if anything matches; so does a malformed pattern.
//
// A search that takes more than its bounds fails the evaluation with
// errTooMuchWork: had it counted as no match, whoever sends the text could
// choose what a rule lets pass. The time of a backtracking search is by the
// clock, so the same search may end one way on an idle machine and the other on
// a busy one.
//
// # Limits
//
// maxStatement, maxNesting, maxOperators, maxVariables and maxVariableName
// bound the text; maxOutput, which grows with the payload, maxPayloadNesting and an
// amount of work the evaluation, which then fails with errTooLarge, errTooDeep or errTooMuchWork.
// The work is some 0.1 s of one core. No statement over any payload of 128 KiB
// allocates more than 48 MiB, compiling included; TestHostile has what was
// tried.
//
// # Cost
//
// Eval of SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE temp > 30 over 200
// bytes of JSON allocates nothing. The payload is read once, and as a whole even
// if WHERE does not hold: what is not JSON from end to end has no members. See
// BenchmarkReferenceRule, and testdata/peers for the same in other engines.
package iotsql
