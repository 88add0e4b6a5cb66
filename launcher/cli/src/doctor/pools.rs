//! The pool that the operation is scheduled in.

use tractorun_yt::{Error, YsonNode, YsonValue, codes};

use super::cypress::Visitor;
use super::finding::Finding;

const NAME: &str = "pool";

/// Where pools are.
const TREES: &str = "//sys/pool_trees";

/// Looks for the pool in every tree that is asked for, or in the default one.
pub(super) async fn pool(visitor: &Visitor, trees: &[String], pool: Option<&str>) -> Vec<Finding> {
    let trees = match trees {
        [] => match default_tree(visitor).await {
            Ok(Some(tree)) => vec![tree],
            // Without a pool there is nothing to look for, and without trees nowhere to look.
            _ if pool.is_none() => return Vec::new(),
            Ok(None) => return vec![unknown(pool, "the cluster names no default pool tree")],
            Err(error) => return vec![unknown(pool, &error.to_string())],
        },
        trees => trees.to_vec(),
    };
    let mut findings = Vec::new();
    for tree in &trees {
        findings.push(in_tree(visitor, tree, pool).await);
    }
    findings
}

async fn default_tree(visitor: &Visitor) -> Result<Option<String>, Error> {
    match visitor.client.get(&format!("{TREES}/@default_tree")).await {
        Ok(tree) => Ok(tree.as_str().map(str::to_owned)),
        Err(error) if error.contains(codes::RESOLVE_ERROR) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn in_tree(visitor: &Visitor, tree: &str, pool: Option<&str>) -> Finding {
    let pools = match visitor.client.get(&format!("{TREES}/{tree}")).await {
        Ok(pools) => pools,
        Err(error) if error.contains(codes::RESOLVE_ERROR) => {
            return Finding::wrong(NAME, format!("there is no pool tree `{tree}`"))
                .hint("`yt list //sys/pool_trees` shows all; `--mesh.pool-trees` names one");
        }
        Err(error) => return unknown(pool, &error.to_string()),
    };
    let Some(pool) = pool else {
        return Finding::fine(NAME, format!("the cluster's default in tree `{tree}`"));
    };
    let Some(path) = find(&pools, pool) else {
        return Finding::doubtful(
            NAME,
            format!("tree `{tree}` has no pool `{pool}`: the cluster may refuse the operation"),
        )
        .hint("check `--mesh.pool` and `--mesh.pool-trees`");
    };
    let path = format!("{TREES}/{tree}/{path}");
    match visitor.may_use(&path).await {
        Ok(None) => Finding::fine(NAME, format!("`{}` may use `{path}`", visitor.user)),
        Ok(Some(why)) => {
            Finding::wrong(NAME, why).hint("ask whoever owns the pool, or choose another `--mesh.pool`")
        }
        Err(error) => unknown(Some(pool), &error.to_string()),
    }
}

fn unknown(pool: Option<&str>, why: &str) -> Finding {
    let pool = pool.map_or_else(|| "the default".to_owned(), |pool| format!("`{pool}`"));
    Finding::doubtful(NAME, format!("cannot look at {pool}: {why}"))
}

/// Where the pool of that name is, below the tree: names are unique within it.
fn find(pools: &YsonValue, name: &str) -> Option<String> {
    let YsonNode::Map(children) = &pools.node else { return None };
    children.iter().find_map(|(key, child)| {
        let key = String::from_utf8_lossy(key);
        if key == name {
            return Some(key.into_owned());
        }
        find(child, name).map(|below| format!("{key}/{below}"))
    })
}

#[cfg(test)]
mod tests {
    use tractorun_yt::value;

    use super::*;

    #[test]
    fn pools_are_found_however_deep() {
        let pools = value::from_json(&serde_json::json!({"a": {"b": {"c": {}}}, "d": {}}));
        assert_eq!(find(&pools, "c").as_deref(), Some("a/b/c"));
        assert_eq!(find(&pools, "d").as_deref(), Some("d"));
        assert_eq!(find(&pools, "e"), None);
    }
}
