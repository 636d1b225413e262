"""A function's life through boto3. The endpoint is AWS_ENDPOINT_URL, PACKAGE a zip
with app.handler, which answers with the text "three"."""
import json
import os

import boto3
from botocore.exceptions import ClientError

lam = boto3.client("lambda")
role = "arn:aws:iam::000000000000:role/any"
code = open(os.environ["PACKAGE"], "rb").read()


def refused(code, call, **args):
    try:
        call(**args)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
        return e.response
    raise AssertionError("%s is not refused" % args)


made = lam.create_function(FunctionName="boto", Runtime="python3.11", Role=role, Handler="app.handler",
                           Code={"ZipFile": code}, Publish=True, Timeout=20, Tags={"a": "b"})
assert made["Version"] == "1" and made["State"] == "Active", made
lam.get_waiter("function_active_v2").wait(FunctionName="boto")
lam.get_waiter("function_exists").wait(FunctionName="boto")
answer = lam.invoke(FunctionName=made["FunctionArn"], Payload=json.dumps({"key": "k"}), LogType="Tail")
body = json.loads(answer["Payload"].read())
assert answer["StatusCode"] == 200 and "FunctionError" not in answer and answer["ExecutedVersion"] == "1", answer
assert body == {"n": 1, "version": "1", "answer": "three", "key": "k"}, body
answer = lam.invoke(FunctionName="boto", Payload=b'{"fail": true}')
assert answer["FunctionError"] == "Unhandled", answer
assert json.loads(answer["Payload"].read())["errorMessage"] == "no good"
assert lam.get_function(FunctionName="boto")["Tags"] == {"a": "b"}
names = [f["FunctionName"] for p in lam.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
         for f in p["Functions"]]
assert names == ["boto", "meter"], names
said = refused("InvalidParameterValueException", lam.create_function, FunctionName="x", Runtime="python3.11",
               Role=role, Handler="app.handler", Code={"ZipFile": b"PK"})
assert said["Type"] == "User" and "unzip" in said["Error"]["Message"], said
refused("InvalidParameterValueException", lam.create_function, FunctionName="x", Runtime="java21", Role=role,
        Handler="app.handler", Code={"ZipFile": code})
refused("PreconditionFailedException", lam.update_function_configuration, FunctionName="boto", Timeout=5, RevisionId="x")
changed = lam.update_function_configuration(FunctionName="boto", Environment={"Variables": {"KEY": "v"}})
lam.get_waiter("function_updated_v2").wait(FunctionName="boto")
assert changed["Environment"] == {"Variables": {"KEY": "v"}} and changed["Timeout"] == 20, changed
assert lam.get_function_concurrency(FunctionName="boto").get("ReservedConcurrentExecutions") is None
lam.put_function_concurrency(FunctionName="boto", ReservedConcurrentExecutions=2)
assert lam.get_function_concurrency(FunctionName="boto")["ReservedConcurrentExecutions"] == 2
refused("ResourceNotFoundException", lam.get_function_event_invoke_config, FunctionName="boto")
lam.put_function_event_invoke_config(FunctionName="boto", MaximumEventAgeInSeconds=60)
assert lam.get_function_event_invoke_config(FunctionName="boto")["MaximumEventAgeInSeconds"] == 60
lam.delete_function_event_invoke_config(FunctionName="boto")
assert lam.invoke(FunctionName="boto", InvocationType="Event")["StatusCode"] == 202
lam.delete_function(FunctionName="boto")
refused("ResourceNotFoundException", lam.invoke, FunctionName="boto")
print("boto3 %s: well" % boto3.__version__)
