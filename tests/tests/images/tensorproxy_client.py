"""Asks the tensorproxy of its node for a value."""

import os
import sys

import grpc

with grpc.insecure_channel(os.environ["TS_GRPC_ADDRESS"]) as channel:
    answer = channel.unary_unary("/Store/Get")(b"//tmp/greeting", wait_for_ready=True, timeout=60)
print(f"rank {os.environ['RANK']} got {answer.decode()}", file=sys.stderr)
