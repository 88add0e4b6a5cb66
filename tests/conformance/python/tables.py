"""Static tables: write, append, read; YSON and JSON; schemas."""

import yt.wrapper as wrapper
import yt.yson as yson
from conformance import client, holds, refused, run_checks, same

yt = client()
ROWS = [
    {"name": "one", "number": 1, "half": 0.5, "yes": True, "nothing": None},
    {"name": "два", "number": -(2**62), "half": 1e300, "yes": False, "nothing": None},
    {"name": "", "number": 0, "half": -0.0, "yes": True, "nothing": {"list": [1, "a", None]}},
]


def check_write_and_read():
    yt.write_table("//tmp/table", ROWS)
    same(list(yt.read_table("//tmp/table")), ROWS)
    same(yt.get("//tmp/table/@row_count"), 3)
    same(yt.get("//tmp/table/@type"), "table")
    same(yt.row_count("//tmp/table"), 3)


def check_write_replaces_and_append_adds():
    yt.write_table("//tmp/grows", [{"a": 1}])
    yt.write_table("//tmp/grows", [{"a": 2}])
    same(list(yt.read_table("//tmp/grows")), [{"a": 2}])
    yt.write_table("<append=%true>//tmp/grows", [{"a": 3}, {"a": 4}])
    yt.write_table(wrapper.TablePath("//tmp/grows", append=True), [{"a": 5}])
    same([row["a"] for row in yt.read_table("//tmp/grows")], [2, 3, 4, 5])
    yt.write_table("//tmp/grows", [])
    same(list(yt.read_table("//tmp/grows")), [])


def check_json():
    rows = [{"a": 1, "text": "plain"}, {"a": 2, "text": "юникод"}]
    yt.write_table("//tmp/json", rows, format=wrapper.JsonFormat())
    same(list(yt.read_table("//tmp/json", format=wrapper.JsonFormat())), rows)
    same(list(yt.read_table("//tmp/json", format="yson")), rows)


def check_yson_formats():
    for kind in ["binary", "text", "pretty"]:
        yt.write_table("//tmp/yson", ROWS, format=wrapper.YsonFormat(format=kind if kind != "pretty" else "text"))
        same(list(yt.read_table("//tmp/yson", format=wrapper.YsonFormat(format=kind))), ROWS)


def check_many_rows():
    rows = [{"index": index, "text": "x" * (index % 100)} for index in range(20_000)]
    yt.write_table("//tmp/many", rows)
    same(list(yt.read_table("//tmp/many")), rows)


def check_large_rows():
    rows = [{"text": bytes(range(256)) * 20_000, "index": index} for index in range(3)]
    bytes_yson = wrapper.YsonFormat(encoding=None)
    raw = [{key.encode(): value for key, value in row.items()} for row in rows]
    yt.write_table("//tmp/large", raw, format=bytes_yson)
    holds(list(yt.read_table("//tmp/large", format=bytes_yson)) == raw, "rows of 5 MB come back as they were written")


def check_parallel_writer_and_reader():
    rows = [{"index": index, "text": "x" * 1000} for index in range(2000)]
    parallel = client(
        write_parallel={"enable": True, "max_thread_count": 4},
        write_retries={"chunk_size": 300_000},
        read_parallel={"enable": True, "max_thread_count": 4, "data_size_per_thread": 300_000},
    )
    parallel.write_table("//tmp/parallel", rows)
    same(list(yt.read_table("//tmp/parallel")), rows)
    same(list(parallel.read_table("//tmp/parallel")), rows)


def check_row_ranges():
    yt.write_table("//tmp/ranges", [{"a": index} for index in range(10)])
    same([row["a"] for row in yt.read_table("//tmp/ranges[#2:#5]")], [2, 3, 4])
    same([row["a"] for row in yt.read_table("//tmp/ranges[#8:]")], [8, 9])


def check_columns_and_indexes():
    yt.write_table("//tmp/columns", [{"a": index, "b": f"x{index}"} for index in range(5)])
    same(list(yt.read_table("//tmp/columns{b}[#2]")), [{"b": "x2"}])
    rows = yt.read_table(
        "//tmp/columns[#2:#4]",
        format=wrapper.YsonFormat(control_attributes_mode="row_fields"),
        control_attributes={"enable_row_index": True},
    )
    same([row["@row_index"] for row in rows], [2, 3])


def check_sorted():
    yt.create("table", "//tmp/sorted", attributes={"schema": [{"name": "k", "type": "int64", "sort_order": "ascending"}]})
    yt.write_table("//tmp/sorted", [{"k": index} for index in range(10)])
    same([row["k"] for row in yt.read_table("//tmp/sorted[3:5]")], [3, 4])
    with refused(code=301):
        yt.write_table("//tmp/sorted", [{"k": 2}, {"k": 1}])


def check_appends_at_the_same_time():
    yt.create("table", "//tmp/appends")
    transactions = [yt.start_transaction(timeout=60000) for _ in range(2)]
    for transaction in transactions:
        with yt.Transaction(transaction_id=transaction):
            yt.write_table("<append=%true>//tmp/appends", [{"by": transaction}])
    for transaction in reversed(transactions):
        yt.commit_transaction(transaction)
    same([row["by"] for row in yt.read_table("//tmp/appends")], transactions[::-1])


def check_in_a_transaction():
    try:
        with yt.Transaction():
            yt.write_table("//tmp/dropped", [{"a": 1}])
            same(len(list(yt.read_table("//tmp/dropped"))), 1)
            raise KeyError
    except KeyError:
        pass
    holds(not yt.exists("//tmp/dropped"), "an aborted table is gone")


def check_schema():
    schema = [{"name": "k", "type": "int64", "required": True}, {"name": "v", "type": "string"}]
    yt.create("table", "//tmp/schema", attributes={"schema": schema})
    yt.write_table("//tmp/schema", [{"k": 1, "v": "a"}, {"k": 2}])
    same([row["k"] for row in yt.read_table("//tmp/schema")], [1, 2])
    stored = yt.get("//tmp/schema/@schema")
    same([column["name"] for column in stored], ["k", "v"])
    with refused():
        yt.write_table("//tmp/schema", [{"v": "no key"}])


def check_missing():
    with refused(code=500):
        list(yt.read_table("//tmp/nowhere"))


def check_bytes_that_are_no_text():
    rows = [{"raw": bytes(range(256)), "name": "\N{SNOWMAN}".encode()}, {"raw": b"\xff\x00\xfe", "name": b""}]
    raw = wrapper.YsonFormat(encoding=None)
    yt.write_table("//tmp/raw", [{key.encode(): value for key, value in row.items()} for row in rows], format=raw)
    same([{key.decode(): value for key, value in row.items()} for row in yt.read_table("//tmp/raw", format=raw)], rows)
    # JSON carries bytes as code points of Latin-1.
    yt.write_table("//tmp/raw_json", b'{"raw":"\\u00ff\\u0000\\u00fe"}\n', format="json", raw=True)
    same([row[b"raw"] for row in yt.read_table("//tmp/raw_json", format=raw)], [b"\xff\x00\xfe"])


def check_alter_table():
    yt.create("table", "//tmp/altered", attributes={"schema": [{"name": "k", "type": "int64", "required": True}]})
    yt.write_table("//tmp/altered", [{"k": 1}])
    yt.alter_table("//tmp/altered", schema=[{"name": "k", "type": "int64"}, {"name": "new", "type": "string"}])
    yt.write_table("<append=%true>//tmp/altered", [{"new": "x"}])
    same([row.get("new") for row in yt.read_table("//tmp/altered")], [None, "x"])
    with refused():
        yt.alter_table("//tmp/altered", schema=[{"name": "k", "type": "string"}])


def check_schemas_of_all_types():
    values = {
        "int8": -128, "int16": -(2**15), "int32": -(2**31), "int64": -(2**63), "uint8": 255, "uint16": 2**16 - 1,
        "uint32": 2**32 - 1, "uint64": 2**64 - 1, "double": 0.25, "boolean": True, "string": "bytes", "utf8": "\N{SNOWMAN}",
        "any": {"a": [1, None]}, "date": 1, "datetime": 2, "timestamp": 3, "interval": -4,
    }
    schema = [{"name": name, "type": name} for name in values]
    yt.create("table", "//tmp/types", attributes={"schema": schema})
    yt.write_table("//tmp/types", [values])
    same(list(yt.read_table("//tmp/types")), [values])
    same({column["name"]: column["type"] for column in yt.get("//tmp/types/@schema")}, {name: name for name in values})
    for name, wrong in [("int8", 128), ("uint8", -1), ("boolean", "x"), ("utf8", 5), ("date", -1)]:
        with refused():
            yt.write_table("//tmp/types", [{name: wrong}])
    same(yt.row_count("//tmp/types"), 1)


def check_sorted_appends_and_unique_keys():
    schema = yson.YsonList([{"name": "k", "type": "int64", "sort_order": "ascending"}, {"name": "v", "type": "string"}])
    schema.attributes["unique_keys"] = True
    yt.create("table", "//tmp/unique", attributes={"schema": schema})
    yt.write_table("//tmp/unique", [{"k": 1, "v": "a"}, {"k": 3, "v": "c"}])
    with refused():
        yt.write_table("<append=%true>//tmp/unique", [{"k": 2, "v": "b"}])
    with refused():
        yt.write_table("<append=%true>//tmp/unique", [{"k": 3, "v": "again"}])
    yt.write_table("<append=%true>//tmp/unique", [{"k": 4, "v": "d"}])
    same([row["v"] for row in yt.read_table("//tmp/unique")], ["a", "c", "d"])
    same(yt.get("//tmp/unique/@sorted_by"), ["k"])


def check_several_ranges_and_renamed_columns():
    yt.write_table("//tmp/several", [{"a": index, "b": index * 2} for index in range(10)])
    path = wrapper.TablePath("//tmp/several", columns=["b"], ranges=[
        {"lower_limit": {"row_index": 1}, "upper_limit": {"row_index": 3}}, {"exact": {"row_index": 7}},
    ])
    same(list(yt.read_table(path)), [{"b": 2}, {"b": 4}, {"b": 14}])


def check_concatenate():
    yt.write_table("//tmp/first", [{"a": 1}])
    yt.write_table("//tmp/second", [{"a": 2}])
    yt.concatenate(["//tmp/first", "//tmp/second"], "//tmp/joined")
    yt.concatenate(["//tmp/first"], "<append=%true>//tmp/joined")
    same([row["a"] for row in yt.read_table("//tmp/joined")], [1, 2, 1])


run_checks(globals())
