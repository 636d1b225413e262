// Runs a handler of a Lambda function in Node.js on the Runtime API.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const env = process.env;
const api = '/2018-06-01/runtime';
const [host, port] = env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, where, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) };
    const request = http.request(
      { host, port, method, path: api + where, agent, headers: { ...headers, ...length } },
      (answer) => {
        const parts = [];
        answer.on('data', (part) => parts.push(part));
        answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
        answer.on('error', reject);
      });
    request.on('error', reject);
    request.end(body);
  });
}

function failure(error) {
  if (error instanceof Error) {
    return { errorType: error.name, errorMessage: error.message, trace: (error.stack || '').split('\n') };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

async function tell(where, doc) {
  console.error(JSON.stringify(doc));
  await ask('POST', where, JSON.stringify(doc),
    { 'Content-Type': 'application/json', 'Lambda-Runtime-Function-Error-Type': encodeURIComponent(doc.errorType) });
}

function named(type, message) {
  return Object.assign(new Error(message), { name: type });
}

// load returns the function that "file.export" or "folder/file.a.b" names.
async function load(name) {
  const folder = path.dirname(name);
  const [file, ...members] = path.basename(name).split('.');
  if (!file || !members.length) throw named('Runtime.MalformedHandlerName', `Bad handler ${name}: want file.export`);
  const base = path.resolve(env.LAMBDA_TASK_ROOT, folder, file);
  const found = ['', '.js', '.mjs', '.cjs'].map((ext) => base + ext)
    .find((at) => fs.existsSync(at) && fs.statSync(at).isFile());
  if (!found) throw named('Runtime.ImportModuleError', `Error: Cannot find module '${file}'`);
  const module = await import(pathToFileURL(found));
  const handler = members.reduce((at, member) => at?.[member], module) ??
    members.reduce((at, member) => at?.[member], module.default);
  if (typeof handler !== 'function') throw named('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  return handler;
}

// call calls the handler, which answers by a promise or by a callback. The answer of
// a callback waits, as AWS's, until nothing is under way any more.
function call(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const deadline = Number(headers['lambda-runtime-deadline-ms']);
    const context = {
      awsRequestId: headers['lambda-runtime-aws-request-id'],
      invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
      functionName: env.AWS_LAMBDA_FUNCTION_NAME,
      functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
      memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
      logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
      clientContext: JSON.parse(headers['lambda-runtime-client-context'] || 'null') ?? undefined,
      callbackWaitsForEmptyEventLoop: true,
      getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
      done: (error, value) => callback(error, value),
      succeed: (value) => { context.callbackWaitsForEmptyEventLoop = false; callback(null, value); },
      fail: (error) => { context.callbackWaitsForEmptyEventLoop = false; callback(error ?? 'handled'); },
    };
    let end = () => resolve(undefined); // of a handler that neither promises nor calls back
    const callback = (error, value) => {
      end = () => (error === null || error === undefined ? resolve(value) : reject(error));
      if (!context.callbackWaitsForEmptyEventLoop) setImmediate(end);
    };
    const promise = handler(event, context, callback);
    if (typeof promise?.then === 'function') promise.then(resolve, reject);
    else process.once('beforeExit', () => end());
  });
}

let handler;
try {
  handler = await load(env._HANDLER);
} catch (error) {
  await tell('/init/error', failure(error));
  process.exit(1);
}
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => { console.error(event, error); process.exit(129); });
}
async function serve() {
  const next = await ask('GET', '/invocation/next');
  if (next.status !== 200) process.exit(1);
  env._X_AMZN_TRACE_ID = next.headers['lambda-runtime-trace-id'] ?? '';
  const where = `/invocation/${next.headers['lambda-runtime-aws-request-id']}`;
  try {
    const value = await call(handler, JSON.parse(next.body), next.headers);
    await ask('POST', `${where}/response`, JSON.stringify(value === undefined ? null : value),
      { 'Content-Type': 'application/json' });
  } catch (error) {
    await tell(`${where}/error`, failure(error));
  }
  setImmediate(serve);
}
serve();
