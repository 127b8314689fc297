//! A pickle reader that builds plain values and can do nothing else.
//!
//! Python's pickle is a program that may call any function. Here a fixed set of opcodes fills an
//! arena of plain values; a global name outside the list in [`Global::parse`] ends the reading, and
//! the names on the list select one of our own arms. No name is ever looked up, imported or called.
//!
//! The arena keeps hostile input harmless: values are indices, so sharing through the memo costs
//! nothing, nothing is nested in memory (no recursion to overflow), and each opcode adds at most one
//! value. Written for `torch.save` files instead of using burn-store 0.21's reader, because that one
//! drops the strides of a tensor: the EfficientNet-Lite files store their convolutions transposed
//! and would load as silently wrong numbers.

mod machine;

use std::io::Read;
use std::rc::Rc;

use machine::Machine;

use super::Dtype;

/// Index of a value in [`Pickle::nodes`].
pub(super) type Id = usize;

/// What a global name may stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
    /// Known, harmless, of no interest (numpy scalars, argparse namespaces): becomes [`Node::Opaque`].
    Inert,
}

impl Global {
    fn parse(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch" | "torch.cuda", storage) if storage.ends_with("Storage") => {
                Self::Storage(match storage {
                    "FloatStorage" => Dtype::F32,
                    "DoubleStorage" => Dtype::F64,
                    "HalfStorage" => Dtype::F16,
                    "BFloat16Storage" => Dtype::Bf16,
                    "LongStorage" => Dtype::I64,
                    "IntStorage" => Dtype::I32,
                    "ShortStorage" => Dtype::I16,
                    "CharStorage" => Dtype::I8,
                    "ByteStorage" => Dtype::U8,
                    "BoolStorage" => Dtype::Bool,
                    _ => return None,
                })
            }
            // Tar files name a tensor's class beside its data; never built.
            ("torch" | "torch.cuda", class) if class.ends_with("Tensor") => Self::Inert,
            ("argparse", "Namespace")
            | ("collections", "defaultdict" | "Counter")
            | ("_codecs", "encode")
            | ("numpy", "dtype" | "ndarray")
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("numpy.dtypes", _)
            | (
                "torch",
                "Size" | "device" | "float32" | "float16" | "bfloat16" | "float64" | "int64",
            ) => Self::Inert,
            _ => return None,
        })
    }
}

/// Part of a storage: where a tensor's elements lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StorageRef {
    pub(super) key: Rc<str>,
    pub(super) dtype: Dtype,
    /// First element that belongs to this reference (old files have views of storages).
    pub(super) base: u64,
    /// Number of elements that belong to it.
    pub(super) elements: u64,
}

/// A tensor as the pickle describes it, not yet checked against any data.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// One value.
#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef),
    Tensor(TensorRef),
    /// A persistent reference that is not a storage (tar files name tensors this way).
    Persistent(Rc<str>),
    /// A value we neither need nor build.
    Opaque,
}

/// The values of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Pickle {
    /// Reads one pickle and leaves `reader` behind its STOP.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, String> {
        Machine::new(reader).run()
    }

    pub(super) fn root(&self) -> &Node {
        &self.nodes[self.root]
    }

    /// The text of a value, integers included (old storage keys are integers).
    pub(super) fn text(&self, id: Id) -> Option<Rc<str>> {
        text(&self.nodes, id)
    }

    pub(super) fn int(&self, id: Id) -> Option<u64> {
        unsigned(&self.nodes, id)
    }
}

fn text(nodes: &[Node], id: Id) -> Option<Rc<str>> {
    match &nodes[id] {
        Node::Text(text) => Some(Rc::clone(text)),
        Node::Int(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn unsigned(nodes: &[Node], id: Id) -> Option<u64> {
    match nodes[id] {
        Node::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(&mut &bytes[..]).expect_err("must be refused")
    }

    #[test]
    fn os_system_is_refused_by_name() {
        // What `pickle.dumps` writes for an object whose __reduce__ is (os.system, ("touch x",)).
        let message =
            refused(b"\x80\x02cposix\nsystem\nq\x00X\x07\x00\x00\x00touch xq\x01\x85q\x02Rq\x03.");
        assert!(message.contains("posix.system"), "{message}");
        let message = refused(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.");
        assert!(message.contains("posix.system"), "{message}");
    }

    #[test]
    fn a_billion_laughs_costs_one_value_each() {
        let mut bytes = b"\x80\x02)".to_vec();
        for _ in 0..100_000 {
            bytes.extend(b"q\x00h\x00\x86"); // x = (x, x): 2^100000 leaves
        }
        bytes.push(b'.');
        let pickle = Pickle::read(&mut &bytes[..]).expect("harmless");
        assert_eq!(pickle.nodes.len(), 100_001);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_value() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtRu.";
        let pickle = Pickle::read(&mut &whole[..]).expect("a good pickle");
        assert!(matches!(pickle.root(), Node::Dict(items) if items.len() == 1));
        for end in 0..whole.len() {
            refused(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.to_vec();
                bytes[at] = value;
                let _ = Pickle::read(&mut &bytes[..]); // must return, and not panic
            }
        }
    }

    #[test]
    fn a_claimed_length_reserves_no_memory() {
        assert!(refused(b"\x80\x02X\xff\xff\xff\xff").contains("bytes"));
        assert!(refused(b"\x80\x02X\xff\xff\x0f\x00abc").contains("too early"));
    }
}
