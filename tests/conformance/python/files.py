"""Files: write, read, append, parts, and the file cache."""

import hashlib
import io
import os

from yt.wrapper.file_commands import upload_file_to_cache

from conformance import client, holds, refused, run_checks, same

yt = client()


def check_write_and_read():
    for content in [b"", b"text\n", bytes(range(256)) * 5000]:
        yt.write_file("//tmp/file", io.BytesIO(content), force_create=True)
        same(yt.read_file("//tmp/file").read(), content)
        same(yt.get("//tmp/file/@uncompressed_data_size"), len(content))
    same(yt.get("//tmp/file/@type"), "file")


def check_parts():
    yt.write_file("//tmp/parts", b"0123456789")
    same(yt.read_file("//tmp/parts", offset=3, length=4).read(), b"3456")
    same(yt.read_file("//tmp/parts", offset=8).read(), b"89")


def check_append():
    yt.write_file("//tmp/append", b"one")
    yt.write_file("<append=%true>//tmp/append", b"two")
    same(yt.read_file("//tmp/append").read(), b"onetwo")


def check_concatenate():
    yt.write_file("//tmp/one", b"1")
    yt.write_file("//tmp/two", b"2")
    yt.concatenate(["//tmp/one", "//tmp/two"], "//tmp/both")
    same(yt.read_file("//tmp/both").read(), b"12")


def check_md5():
    content = os.urandom(100_000)
    yt.write_file("//tmp/md5", content, compute_md5=True)
    same(yt.get("//tmp/md5/@md5"), hashlib.md5(content).hexdigest())


def check_in_a_transaction():
    try:
        with yt.Transaction():
            yt.write_file("//tmp/dropped", b"x")
            same(yt.read_file("//tmp/dropped").read(), b"x")
            raise KeyError
    except KeyError:
        pass
    holds(not yt.exists("//tmp/dropped"), "an aborted file is gone")


def check_missing():
    with refused(code=500):
        yt.read_file("//tmp/nowhere")


def check_cache():
    with open("cached.bin", "wb") as stream:
        stream.write(os.urandom(50_000))
    with open("cached.bin", "rb") as stream:
        content = stream.read()
    path = upload_file_to_cache("cached.bin", client=yt)
    same(yt.read_file(path).read(), content)
    same(upload_file_to_cache("cached.bin", client=yt), path)
    md5 = hashlib.md5(content).hexdigest()
    same(yt.get_file_from_cache(md5), path)
    holds(not yt.get_file_from_cache("0" * 32), "what was not put there is a miss")


def check_put_to_cache_checks_the_hash():
    yt.write_file("//tmp/source", b"abc", compute_md5=True)
    with refused():
        yt.put_file_to_cache("//tmp/source", "0" * 32)
    md5 = hashlib.md5(b"abc").hexdigest()
    path = yt.put_file_to_cache("//tmp/source", md5)
    same(yt.read_file(path).read(), b"abc")


run_checks(globals())
