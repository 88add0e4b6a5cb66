#!/usr/bin/env python3
"""A stand-in for the tensorproxy: answers over gRPC with what the cluster holds at the path that was asked for."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import yt.wrapper as yt
from yt import yson

# By the first line and the image's PATH.
assert sys.prefix == "/opt/venv", sys.prefix
parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)
with open(parser.parse_args().config, "rb") as file:
    config = yson.load(file)
client = yt.YtClient(proxy=os.environ["YT_PROXY"], token=os.environ.get("YT_TOKEN"))


def get(path, _context):
    return f"{client.get(path.decode())} by node {os.environ['NODE_RANK']}".encode()


methods = {"Get": grpc.unary_unary_rpc_method_handler(get)}
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Store", methods)])
assert server.add_insecure_port(f"localhost:{config['grpc_port']}") == config["grpc_port"]
server.start()
server.wait_for_termination()
