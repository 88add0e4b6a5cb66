"""Cypress: nodes, documents, attributes, links, copies."""

import yt.yson as yson
from conformance import client, holds, refused, run_checks, same

yt = client()


def check_nodes():
    yt.create("map_node", "//tmp/nodes/deep/er", recursive=True)
    holds(yt.exists("//tmp/nodes/deep/er"), "a node made recursively is there")
    holds(not yt.exists("//tmp/nodes/none"), "what was not made is not there")
    same(yt.get("//tmp/nodes/@type"), "map_node")
    same(sorted(yt.list("//tmp/nodes")), ["deep"])
    with refused(code=501):
        yt.create("map_node", "//tmp/nodes/deep")
    yt.create("map_node", "//tmp/nodes/deep", ignore_existing=True)
    with refused(code=500):
        yt.get("//tmp/nodes/none")
    with refused(code=500):
        yt.create("map_node", "//tmp/nodes/no/parent")


def check_values():
    values = ["text", "", "юникод", 0, -5, 2**62, 1.5, True, False, None, [1, "a", [2.0]], {"k": {"l": [None]}}]
    for value in values:
        yt.create("document", "//tmp/value", attributes={"value": value}, force=True)
        same(yt.get("//tmp/value"), value)
        yt.set("//tmp/nodes/@attribute", value)
        same(yt.get("//tmp/nodes/@attribute"), value)
    yt.set("//tmp/string", "a")
    same(yt.get("//tmp/string/@type"), "string_node")
    yt.set("//tmp/number", 5)
    same(yt.get("//tmp/number/@type"), "int64_node")
    yt.set("//tmp/nodes/@unsigned", yson.YsonUint64(2**63 + 1))
    same(yt.get("//tmp/nodes/@unsigned"), 2**63 + 1)


def check_inside_documents():
    yt.create("document", "//tmp/document", attributes={"value": {"a": {"b": [1, 2]}}})
    same(yt.get("//tmp/document/a/b/1"), 2)
    yt.set("//tmp/document/a/c", "new")
    same(yt.get("//tmp/document"), {"a": {"b": [1, 2], "c": "new"}})


def check_lists_inside_documents():
    yt.create("document", "//tmp/list", attributes={"value": {"k": [1, {"q": "w"}]}})
    same(yt.get("//tmp/list/k/1/q"), "w")
    yt.set("//tmp/list/k/end", 3)
    same(yt.get("//tmp/list/k/-1"), 3)
    yt.remove("//tmp/list/k/0")
    same(yt.get("//tmp/list/k"), [{"q": "w"}, 3])


def check_set_does_not_change_types():
    yt.create("map_node", "//tmp/typed/child", recursive=True)
    node = yt.get("//tmp/typed/@id")
    with refused():
        yt.set("//tmp/typed", {"a": 1})
    yt.set("//tmp/typed", {"a": 1}, force=True)
    same(yt.get("//tmp/typed"), {"a": 1})
    same(yt.get("//tmp/typed/@id"), node)
    with refused(code=501):
        yt.create("table", "//tmp/typed", ignore_existing=True)
    same(yt.create("map_node", "//tmp/typed", ignore_existing=True), node)


def check_attributes():
    yt.create("map_node", "//tmp/attributes", attributes={"mine": {"x": 1}})
    same(yt.get("//tmp/attributes/@mine/x"), 1)
    yt.set("//tmp/attributes/@mine/y", "z")
    same(yt.get("//tmp/attributes/@mine"), {"x": 1, "y": "z"})
    same(yt.list("//tmp/attributes/@").count("mine"), 1)
    yt.remove("//tmp/attributes/@mine")
    holds(not yt.exists("//tmp/attributes/@mine"), "a removed attribute is gone")
    with refused(code=500):
        yt.get("//tmp/attributes/@mine")
    with refused():
        yt.set("//tmp/attributes/@id", "1-2-3-4")
    node = yt.get("//tmp/attributes", attributes=["type", "absent"])
    same(node.attributes["type"], "map_node")
    holds("absent" not in node.attributes, "an absent attribute is left out")
    listed = {str(name): name.attributes for name in yt.list("//tmp", attributes=["type"])}
    same(listed["attributes"]["type"], "map_node")


def check_acl_is_data():
    rules = [{"action": "allow", "subjects": ["root"], "permissions": ["read", "write"], "inheritance_mode": "object_only"}]
    yt.create("map_node", "//tmp/acl", attributes={"acl": rules, "inherit_acl": True})
    (rule,) = yt.get("//tmp/acl/@acl")
    same({key: rule[key] for key in rules[0]}, rules[0])
    yt.set("//tmp/acl/@acl/end", {"action": "allow", "subjects": ["root"], "permissions": ["remove"]})
    same([entry["permissions"] for entry in yt.get("//tmp/acl/@acl")], [["read", "write"], ["remove"]])
    same(yt.get("//tmp/acl/@inherit_acl"), True)
    with refused("action"):
        yt.set("//tmp/acl/@acl", [{**rules[0], "action": "maybe"}])
    yt.set("//tmp/acl/@acl", [])
    same(yt.get("//tmp/acl/@acl"), [])


def check_ids():
    node = yt.create("map_node", "//tmp/by_id")
    same(yt.get(f"#{node}/@path"), "//tmp/by_id")
    same(yt.get("//tmp/by_id/@id"), node)
    yt.set(f"#{node}/@a", 1)
    same(yt.get("//tmp/by_id/@a"), 1)


def check_links():
    yt.create("map_node", "//tmp/target")
    yt.set("//tmp/target/@a", 7)
    yt.link("//tmp/target", "//tmp/link")
    same(yt.get("//tmp/link/@a"), 7)
    same(yt.get("//tmp/link&/@type"), "link")
    same(yt.get("//tmp/link&/@target_path"), "//tmp/target")
    yt.remove("//tmp/link")
    holds(yt.exists("//tmp/target"), "removing a link keeps its target")


def check_broken_links():
    yt.create("map_node", "//tmp/links/target", recursive=True)
    yt.link("//tmp/links/target", "//tmp/links/link")
    yt.remove("//tmp/links/target")
    same(yt.get("//tmp/links/link&/@broken"), True)
    holds(not yt.exists("//tmp/links/link/child"), "nothing is behind a broken link")


def check_copy_move_remove():
    yt.create("map_node", "//tmp/from/inner", recursive=True, attributes={"kept": 1})
    yt.copy("//tmp/from", "//tmp/copied")
    same(yt.get("//tmp/copied/inner/@kept"), 1)
    with refused(code=501):
        yt.copy("//tmp/from", "//tmp/copied")
    yt.move("//tmp/from", "//tmp/moved")
    holds(not yt.exists("//tmp/from"), "a moved node is gone")
    same(yt.get("//tmp/moved/inner/@kept"), 1)
    with refused():
        yt.remove("//tmp/moved")
    yt.remove("//tmp/moved", recursive=True)
    holds(not yt.exists("//tmp/moved"), "a removed node is gone")
    yt.remove("//tmp/moved", force=True)
    with refused(code=500):
        yt.remove("//tmp/moved")


def check_ypath_with_strange_names():
    for name in ["a b", "c\\/d", "ё", "q'w"]:
        yt.create("map_node", "//tmp/names/" + name, recursive=True)
        holds(yt.exists("//tmp/names/" + name), name)
    same(len(yt.list("//tmp/names")), 4)


def check_escapes():
    yt.create("map_node", "//tmp/escapes", recursive=True)
    yt.create("map_node", r"//tmp/escapes/we\/ird\@\*")
    same(yt.list("//tmp/escapes"), ["we/ird@*"])
    holds(yt.exists(r"//tmp/escapes/we\/ird\@\*"), "an escaped name")


def check_times():
    moment = yt.get("//tmp/@creation_time")
    holds(len(moment) == 27 and moment.endswith("Z"), moment)


def check_search():
    yt.create("document", "//tmp/search/deep/document", recursive=True)
    same([str(path) for path in yt.search("//tmp/search", node_type="document")], ["//tmp/search/deep/document"])


def check_system_tree():
    holds("sys" in yt.list("/"), "there is //sys")
    holds(yt.exists("//sys"), "//sys is there")


def check_what_is_unknown_is_refused():
    with refused():
        yt.create("no_such_type", "//tmp/unknown")
    with refused():
        yt.get("no leading slashes")


def check_acl_entries_are_completed():
    yt.create("map_node", "//tmp/acl_defaults", attributes={"acl": [{"action": "deny", "subjects": ["root"], "permissions": ["write"]}]})
    same(yt.get("//tmp/acl_defaults/@acl")[0]["inheritance_mode"], "object_and_descendants")
    with yt.Transaction(), refused("transaction"):
        yt.set("//tmp/acl_defaults/@acl", [])
    same(len(yt.get("//tmp/acl_defaults/@acl")), 1)


def check_copies_of_links():
    yt.create("map_node", "//tmp/copied_links/target", recursive=True, attributes={"a": 1})
    yt.link("//tmp/copied_links/target", "//tmp/copied_links/link")
    # A link as the source stands for its target; with an ampersand for itself; inside of what is copied it stays one.
    yt.copy("//tmp/copied_links/link", "//tmp/copied_links/followed")
    same(yt.get("//tmp/copied_links/followed&/@type"), "map_node")
    yt.copy("//tmp/copied_links/link&", "//tmp/copied_links/itself")
    same(yt.get("//tmp/copied_links/itself&/@type"), "link")
    yt.copy("//tmp/copied_links", "//tmp/copied_whole")
    same(yt.get("//tmp/copied_whole/link&/@target_path"), "//tmp/copied_links/target")
    same(yt.get("//tmp/copied_whole/link/@a"), 1)
    yt.link("//tmp/copied_links/followed", "//tmp/copied_links/link", force=True)
    same(yt.get("//tmp/copied_links/link&/@target_path"), "//tmp/copied_links/followed")
    with refused(code=501):
        yt.link("//tmp/copied_links/target", "//tmp/copied_links/link")


def check_what_copies_keep():
    yt.create("document", "//tmp/kept", attributes={"value": [1], "mine": 2, "expiration_timeout": 10**9})
    yt.copy("//tmp/kept", "//tmp/kept_copy", preserve_creation_time=True)
    same(yt.get("//tmp/kept_copy"), [1])
    same(yt.get("//tmp/kept_copy/@creation_time"), yt.get("//tmp/kept/@creation_time"))
    holds(not yt.exists("//tmp/kept_copy/@expiration_timeout"), "a copy lives as long as it likes")
    yt.copy("//tmp/kept", "//tmp/kept_copy", force=True, preserve_expiration_timeout=True)
    same(yt.get("//tmp/kept_copy/@expiration_timeout"), 10**9)
    with refused():
        yt.move("//tmp/kept", "//tmp/no/parent")
    yt.move("//tmp/kept", "//tmp/moved_into/a/new/place", recursive=True)
    same(yt.get("//tmp/moved_into/a/new/place/@mine"), 2)


run_checks(globals())
