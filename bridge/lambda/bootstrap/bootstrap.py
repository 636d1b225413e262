"""Runs a handler of a Lambda function in Python on the Runtime API."""
import http.client
import importlib
import json
import logging
import os
import sys
import time
import traceback

API = "/2018-06-01/runtime"


class Client:
    """One connection to the API, opened again when it breaks."""

    def __init__(self, address):
        self.address = address
        self.connection = http.client.HTTPConnection(address)

    def ask(self, method, path, body=None, headers=None):
        try:
            self.connection.request(method, API + path, body, headers or {})
            answer = self.connection.getresponse()
            return answer, answer.read()
        except (http.client.HTTPException, OSError):
            self.connection.close()
            raise


class Context:
    """What a handler is told of its call, as AWS's own client names it."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = env["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = env["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = env["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = env["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context = json.loads(headers.get("Lambda-Runtime-Client-Context") or "null")
        self.identity = None
        self._deadline = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))


def failure(error, request_id=""):
    frames = traceback.extract_tb(error.__traceback__)
    trace = traceback.format_list([f for f in frames if f.filename != __file__])
    return {"errorMessage": str(error), "errorType": type(error).__name__, "requestId": request_id, "stackTrace": trace}


def load(name):
    """The function that "file.function" or "folder/file.function" names."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError("Bad handler '%s': want file.function" % name)
    module = importlib.import_module(module.replace("/", "."))
    if not hasattr(module, attribute):
        raise AttributeError("Handler '%s' missing on module '%s'" % (attribute, module.__name__))
    return getattr(module, attribute)


def encode(value):
    if isinstance(value, bytes):
        return value, "application/octet-stream"
    return json.dumps(value, ensure_ascii=False, default=str).encode(), "application/json"


class LogHandler(logging.Handler):
    """Writes the lines of the module logging as AWS's runtime does: [LEVEL], time, request's id, message."""

    request_id = ""

    def __init__(self):
        super().__init__()
        form = logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
                                 "%Y-%m-%dT%H:%M:%S")
        form.converter = time.gmtime
        self.setFormatter(form)
        self.addFilter(self.mark)

    def mark(self, record):
        record.aws_request_id = LogHandler.request_id
        return True

    def emit(self, record):
        try:
            print(self.format(record), flush=True)
        except Exception:
            self.handleError(record)


def tell(client, path, doc):
    print("[ERROR] %s: %s\n%s" % (doc["errorType"], doc["errorMessage"], "".join(doc["stackTrace"])), flush=True)
    client.ask("POST", path, json.dumps(doc).encode(),
               {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": doc["errorType"]})


def main():
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    logging.getLogger().addHandler(LogHandler())
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    try:
        handler = load(os.environ["_HANDLER"])
    except BaseException as error:  # SystemExit, too, is no way to start
        doc = failure(error)
        if isinstance(error, ImportError):
            doc.update(errorType="Runtime.ImportModuleError",
                       errorMessage="Unable to import module '%s': %s" % (os.environ["_HANDLER"].rpartition(".")[0], error))
        elif isinstance(error, AttributeError) and not doc["stackTrace"]:
            doc["errorType"] = "Runtime.HandlerNotFound"
        tell(client, "/init/error", doc)
        sys.exit(1)
    while True:
        answer, event = client.ask("GET", "/invocation/next")
        if answer.status != 200:
            sys.exit("the Runtime API answers %d" % answer.status)
        context = Context(answer.headers)
        os.environ["_X_AMZN_TRACE_ID"] = answer.headers.get("Lambda-Runtime-Trace-Id") or ""
        LogHandler.request_id = context.aws_request_id
        path = "/invocation/" + context.aws_request_id
        try:
            body, kind = encode(handler(json.loads(event), context))
        except Exception as error:
            tell(client, path + "/error", failure(error, context.aws_request_id))
            continue
        client.ask("POST", path + "/response", body, {"Content-Type": kind})


main()
