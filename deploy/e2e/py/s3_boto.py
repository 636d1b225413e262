"""Drives the bridge's objects with boto3: python s3_boto.py FOLDER."""

import hashlib
import io
import os
import random
import ssl
import sys
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

folder = sys.argv[1]
s3 = boto3.client("s3")
tls = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
data = random.Random(1).randbytes(20 << 20)
big = os.path.join(folder, "big")
with open(big, "wb") as f:
    f.write(data)


def said(name):
    print("CHECK", name, flush=True)


s3.create_bucket(Bucket="boto")
parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
s3.upload_file(big, "boto", "dir/big", Config=parts,
               ExtraArgs={"Metadata": {"a": "b"}, "ContentType": "x/y", "ChecksumAlgorithm": "SHA256"})
head = s3.head_object(Bucket="boto", Key="dir/big")
md5s = b"".join(hashlib.md5(data[i:i + (8 << 20)]).digest() for i in range(0, len(data), 8 << 20))
assert head["ETag"] == '"%s-3"' % hashlib.md5(md5s).hexdigest(), head
assert head["Metadata"] == {"a": "b"} and head["ContentType"] == "x/y", head
back = io.BytesIO()
s3.download_fileobj("boto", "dir/big", back, Config=parts)
assert back.getvalue() == data
said("upload and download in parts")

s3.copy({"Bucket": "boto", "Key": "dir/big"}, "boto", "copy", Config=parts)
assert s3.get_object(Bucket="boto", Key="copy")["Body"].read() == data
said("copy in parts")

for algorithm in ["CRC32", "SHA1", "SHA256"]:
    s3.put_object(Bucket="boto", Key="sum", Body=b"small", ChecksumAlgorithm=algorithm)
    assert s3.get_object(Bucket="boto", Key="sum", ChecksumMode="ENABLED")["Body"].read() == b"small"
said("checksums")

for version in ["s3", "s3v4"]:
    signer = boto3.client("s3", config=Config(signature_version=version))
    url = signer.generate_presigned_url("put_object", Params={"Bucket": "boto", "Key": "a b", "ContentType": "x/z"})
    assert ("AWSAccessKeyId=" in url) == (version == "s3"), url
    request = urllib.request.Request(url, data=version.encode(), method="PUT", headers={"Content-Type": "x/z"})
    assert urllib.request.urlopen(request, context=tls).status == 200
    url = signer.generate_presigned_url("get_object", Params={
        "Bucket": "boto", "Key": "a b", "ResponseContentType": "x/other"})
    with urllib.request.urlopen(url, context=tls) as answer:
        assert answer.read() == version.encode() and answer.headers["Content-Type"] == "x/other"
    try:
        urllib.request.urlopen(url + "x", context=tls)
        raise AssertionError("a signature that is none was taken")
    except urllib.error.HTTPError as err:
        assert err.code in (400, 403), err
said("presigned URLs of both versions")

keys = ["a b+ü&/x", "..//.", "x" * 1000, "folder/", "folder", "folder/x"]
for key in keys:
    s3.put_object(Bucket="boto", Key=key, Body=key.encode())
for key in keys:
    assert s3.get_object(Bucket="boto", Key=key)["Body"].read() == key.encode()
found = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket="boto", PaginationConfig={"PageSize": 2})
         for o in p["Contents"]]
assert found == sorted(keys + ["dir/big", "copy", "sum", "a b"], key=str.encode), found
said("keys and pages")

try:
    s3.put_object(Bucket="boto", Key="copy", Body=b"", IfNoneMatch="*")
    raise AssertionError("an object was replaced")
except ClientError as err:
    assert err.response["Error"]["Code"] == "PreconditionFailed", err
said("conditional write")

answer = s3.delete_objects(Bucket="boto", Delete={"Objects": [{"Key": k} for k in found]})
assert len(answer["Deleted"]) == len(found), answer
s3.delete_bucket(Bucket="boto")
said("delete")
