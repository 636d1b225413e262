"""Reads and writes the bridge's objects as DuckDB and Arrow do: python s3_readers.py DUCKDB-EXTENSION."""

import os
import sys

import boto3
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

endpoint = os.environ["AWS_ENDPOINT_URL"]
host = endpoint.split("//")[1]


def said(name):
    print("CHECK", name, flush=True)


s3 = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", tls_ca_file_path=os.environ["AWS_CA_BUNDLE"],
                     allow_bucket_creation=True, allow_bucket_deletion=True)
s3.create_dir("lake/dir")
table = pa.table({"n": list(range(100_000)), "d": ["x", "y"] * 50_000})
ds.write_dataset(table, "lake/dir/t", filesystem=s3, format="parquet", partitioning=["d"])
assert ds.dataset("lake/dir/t", filesystem=s3, format="parquet", partitioning=["d"]).to_table().num_rows == 100_000
said("arrow")

db = duckdb.connect(config={"autoinstall_known_extensions": "false"})
db.execute(f"LOAD '{sys.argv[1]}'")
db.execute(f"SET ca_cert_file='{os.environ['AWS_CA_BUNDLE']}'; SET enable_server_cert_verification=true")
key = boto3.Session().get_credentials()
db.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{key.access_key}', SECRET '{key.secret_key}', REGION 'us-east-1',
    ENDPOINT '{host}', URL_STYLE 'path')""")
assert db.execute("SELECT count(*), sum(n) FROM 's3://lake/dir/t/**/*.parquet'").fetchone() == (100_000, 4999950000)
db.execute("COPY (SELECT range n, range % 3 d FROM range(300000)) TO 's3://lake/duck' (FORMAT parquet, PARTITION_BY d)")
rows = db.execute("SELECT d, count(*) FROM 's3://lake/duck/**/*.parquet' GROUP BY d ORDER BY d").fetchall()
assert rows == [(0, 100_000), (1, 100_000), (2, 100_000)], rows
said("duckdb")

s3.delete_dir("lake")
said("delete")
