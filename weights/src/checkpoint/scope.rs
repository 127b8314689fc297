//! Which dicts of a pickle are searched for tensors.

use std::collections::HashSet;

use super::pickle::{Id, Node, Pickle};

/// Keys that training scripts put a state dict under.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// Deeper than any training script nests its dicts (an optimiser's moments are four levels down).
const MAX_DEPTH: usize = 8;
/// Bytes that a search may take: lists that share their items must not multiply without end.
const MAX_BYTES: usize = 1 << 26;
/// Beside the bytes of its name, what a value under search takes.
const OVERHEAD: usize = 64;

/// Where tensors are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// In one dict: the root, or what is under one of [`WRAPPERS`].
    StateDict,
    /// In all dicts and lists, under dotted names.
    Nested,
}

impl Scope {
    /// Names and values among which are the tensors, and what wrapped them.
    pub(super) fn tensors(
        self,
        pickle: &Pickle,
        is_tensor: impl Fn(&Node) -> bool,
    ) -> Result<Tensors, String> {
        match self {
            Self::StateDict => state_dict(pickle, is_tensor),
            Self::Nested => Ok((None, nested(pickle, is_tensor)?)),
        }
    }
}

/// A wrapper's name, and names and values; those that are no tensors are still among them.
type Tensors = (Option<String>, Vec<(String, Id)>);

/// The dict with tensors: the root, or what is under one of [`WRAPPERS`].
fn state_dict(pickle: &Pickle, is_tensor: impl Fn(&Node) -> bool) -> Result<Tensors, String> {
    let items = |id: Id| match &pickle.nodes[id] {
        Node::Dict(items) => items
            .iter()
            .filter_map(|&(key, value)| Some((pickle.text(key)?.to_string(), value)))
            .collect(),
        _ => Vec::new(),
    };
    let holds_tensors =
        |items: &[(String, Id)]| items.iter().any(|(_, id)| is_tensor(&pickle.nodes[*id]));
    let root = items(pickle.root);
    if holds_tensors(&root) {
        return Ok((None, root));
    }
    for wrapper in WRAPPERS {
        if let Some((_, id)) = root.iter().find(|(key, _)| key == wrapper) {
            let inner = items(*id);
            if holds_tensors(&inner) {
                return Ok((Some(wrapper.to_owned()), inner));
            }
        }
    }
    let keys: Vec<_> = root.iter().take(10).map(|(key, _)| key.as_str()).collect();
    Err(if keys.is_empty() {
        "the file holds no dict of tensors".into()
    } else {
        format!(
            "no tensors at the top level or under {}; the top-level keys are {}",
            WRAPPERS.join(", "),
            keys.join(", ")
        )
    })
}

/// All tensors at any depth: `{"a": [{"b": tensor}]}` gives `a.0.b`.
fn nested(pickle: &Pickle, is_tensor: impl Fn(&Node) -> bool) -> Result<Vec<(String, Id)>, String> {
    let mut found = Vec::new();
    let mut names = HashSet::new();
    let mut open = vec![(String::new(), pickle.root, 0)];
    let mut budget = MAX_BYTES;
    while let Some((name, id, depth)) = open.pop() {
        if is_tensor(&pickle.nodes[id]) {
            if !names.insert(name.clone()) {
                return Err(format!("two tensors are called {name}"));
            }
            found.push((name, id));
            continue;
        }
        let children: Vec<_> = match &pickle.nodes[id] {
            Node::Dict(items) => items
                .iter()
                .filter_map(|&(key, value)| Some((pickle.text(key)?.to_string(), value)))
                .collect(),
            Node::List(items) | Node::Tuple(items) => items
                .iter()
                .enumerate()
                .map(|(index, &value)| (index.to_string(), value))
                .collect(),
            _ => continue,
        };
        if depth == MAX_DEPTH && !children.is_empty() {
            return Err(format!("dicts are nested more than {MAX_DEPTH} deep"));
        }
        for (key, value) in children {
            let child = if name.is_empty() {
                key
            } else {
                format!("{name}.{key}")
            };
            budget = budget
                .checked_sub(child.len() + OVERHEAD)
                .ok_or("the nested dicts hold too much")?;
            open.push((child, value, depth + 1));
        }
    }
    if found.is_empty() {
        return Err("the file holds no tensors".into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::pickle::StorageRef;
    use crate::checkpoint::{Dtype, pickle::TensorRef};

    fn tensor() -> Node {
        Node::Tensor(TensorRef {
            storage: StorageRef {
                key: "0".into(),
                dtype: Dtype::F32,
                base: 0,
                elements: 1,
            },
            offset: 0,
            shape: vec![1],
            strides: vec![1],
        })
    }

    fn names(nodes: Vec<Node>) -> Result<Vec<String>, String> {
        let root = nodes.len() - 1;
        let pickle = Pickle { nodes, root };
        let (_, found) = Scope::Nested.tensors(&pickle, |node| matches!(node, Node::Tensor(_)))?;
        let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn a_name_joins_keys_and_places() {
        let text = |text: &str| Node::Text(text.into());
        let nodes = vec![
            tensor(),
            text("x.y"),
            Node::Dict(vec![(1, 0)]),
            Node::List(vec![2, 5, 2]),
            text("levels"),
            Node::Int(7),
            Node::Dict(vec![(4, 3), (5, 0)]),
        ];
        let expected = ["7", "levels.0.x.y", "levels.2.x.y"];
        assert_eq!(names(nodes), Ok(expected.map(String::from).to_vec()));
    }

    #[test]
    fn a_name_given_twice_is_an_error() {
        let text = |text: &str| Node::Text(text.into());
        let nodes = vec![
            tensor(),
            text("a"),
            text("b"),
            text("a.b"),
            Node::Dict(vec![(2, 0)]),
            Node::Dict(vec![(1, 4), (3, 0)]),
        ];
        assert_eq!(names(nodes), Err("two tensors are called a.b".into()));
    }

    #[test]
    fn a_list_that_holds_itself_or_multiplies_ends() {
        let cycle = names(vec![Node::List(vec![0])]);
        assert!(cycle.is_err_and(|why| why.contains("deep")));
        let mut nodes = vec![tensor()];
        for level in 0..MAX_DEPTH {
            nodes.push(Node::List(vec![level; 1000]));
        }
        assert!(names(nodes).is_err_and(|why| why.contains("too much")));
    }
}
