"""Runs AWS's command line many times and loads it once.

Each line of the input is a JSON object: "args" of a command and "env" to set for it.
A fork of this process runs the command, as /usr/bin/aws would; the answer is a line
with its exit status and what it printed.
"""
import importlib
import json
import os
import sys
import tempfile

import awscli.clidriver

# What every command would load for itself.
driver = awscli.clidriver.create_clidriver()
for service in sys.argv[1:]:
    driver.session.get_service_model(service)
for module in ("awscli.handlers", "awscli.formatter", "awscli.paramfile", "botocore.httpsession", "botocore.auth", "botocore.parsers", "botocore.paginate", "colorama", "yaml"):
    try:
        importlib.import_module(module)
    except ImportError:
        pass  # of another version


def run(request, out):
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(request["env"])
    sys.argv = ["aws"] + request["args"]
    try:
        return awscli.clidriver.main() or 0
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1


for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            code = 255
            try:
                code = run(request, out.fileno())
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        answer = {"status": os.waitstatus_to_exitcode(status), "out": out.read().decode("utf-8", "replace")}
    print(json.dumps(answer), flush=True)
