//! The stack machine: one arm per opcode, and nothing beyond them.

use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use super::{Global, Id, Node, Pickle, StorageRef, TensorRef, text, unsigned};

/// More opcodes than any checkpoint needs (a ResNet-152 state dict has about 30,000).
const MAX_OPS: usize = 2_000_000;
/// Longer than any key; old full-model files also carry source text.
const MAX_TEXT: u64 = 1 << 22;
/// More dimensions than any weight has.
const MAX_RANK: usize = 8;

/// Stack, marks and memo of a pickle under way.
pub(super) struct Machine<'r, R> {
    reader: &'r mut R,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Items copied by calls: a list recalled from the memo could be copied once per opcode.
    copied: usize,
}

type Outcome<T> = Result<T, String>;

impl<'r, R: Read> Machine<'r, R> {
    pub(super) fn new(reader: &'r mut R) -> Self {
        Self {
            reader,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        }
    }

    pub(super) fn run(mut self) -> Outcome<Pickle> {
        for _ in 0..MAX_OPS {
            let [op] = self.bytes()?;
            if op == b'.' {
                let root = self.pop()?;
                return Ok(Pickle {
                    nodes: self.nodes,
                    root,
                });
            }
            self.step(op)?;
        }
        Err(format!("the pickle has more than {MAX_OPS} operations"))
    }

    fn step(&mut self, op: u8) -> Outcome<()> {
        match op {
            0x80 => match self.bytes::<1>()? {
                [2..=5] => {}
                [version] => return Err(format!("pickle protocol {version} is not supported")),
            },
            0x95 => _ = self.bytes::<8>()?, // FRAME: a length we do not need
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push_global(&module, &name)?;
            }
            b'N' => self.push(Node::None),
            0x88 | 0x89 => self.push(Node::Bool(op == 0x88)),
            b'J' => {
                let value = i32::from_le_bytes(self.bytes()?);
                self.push(Node::Int(i64::from(value)));
            }
            b'K' => {
                let [value] = self.bytes()?;
                self.push(Node::Int(i64::from(value)));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.bytes()?);
                self.push(Node::Int(i64::from(value)));
            }
            0x8a => self.long()?,
            b'G' => {
                self.bytes::<8>()?;
                self.push(Node::Opaque); // a float: never part of a tensor's description
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.bytes()?);
                self.push_text(u64::from(length))?;
            }
            0x8c | b'U' => {
                let [length] = self.bytes()?;
                self.push_text(u64::from(length))?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.bytes()?);
                self.take(u64::from(length))?;
                self.push(Node::Opaque);
            }
            b'C' => {
                let [length] = self.bytes()?;
                self.take(u64::from(length))?;
                self.push(Node::Opaque);
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Node::Tuple(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            0x8f => self.push(Node::Opaque), // EMPTY_SET
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items));
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items));
            }
            0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x85..=op {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            0x90 => _ = self.pop_to_mark()?, // ADDITEMS to an opaque set
            b'0' => _ = self.pop()?,
            b'q' => {
                let [slot] = self.bytes()?;
                self.remember(u32::from(slot))?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.bytes()?);
                self.remember(slot)?;
            }
            0x94 => {
                let slot = u32::try_from(self.memo.len()).map_err(|_| UNDERFLOW)?;
                self.remember(slot)?;
            }
            b'h' => {
                let [slot] = self.bytes()?;
                self.recall(u32::from(slot))?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.bytes()?);
                self.recall(slot)?;
            }
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.call()?,
            b'b' => {
                // The state of an OrderedDict (`_metadata`) or of an inert object: not needed.
                self.pop()?;
                self.top()?;
            }
            other => return Err(format!("pickle opcode 0x{other:02x} is not supported")),
        }
        Ok(())
    }

    /// REDUCE and NEWOBJ: the only place where Python would run something.
    fn call(&mut self) -> Outcome<()> {
        let (args, callable) = (self.pop()?, self.pop()?);
        let Node::Global(global) = self.nodes[callable] else {
            return Err("the pickle calls something that is not a known name".into());
        };
        let Node::Tuple(args) = &self.nodes[args] else {
            return Err("the pickle calls a name without a tuple of arguments".into());
        };
        self.copied += args.len();
        if self.copied > MAX_OPS {
            return Err("the pickle copies too many values".into());
        }
        let args = args.clone();
        let node = match global {
            Global::OrderedDict => self.ordered_dict(&args)?,
            Global::RebuildTensor => self.tensor(&args)?,
            Global::RebuildParameter => match args.first().map(|&id| &self.nodes[id]) {
                Some(Node::Tensor(tensor)) => Node::Tensor(tensor.clone()),
                _ => return Err("a parameter without a tensor".into()),
            },
            Global::Inert => Node::Opaque,
            Global::Storage(_) => return Err("the pickle calls a storage type".into()),
        };
        self.push(node);
        Ok(())
    }

    /// `OrderedDict()` or, from Python 2, `OrderedDict([[key, value], ...])`.
    fn ordered_dict(&mut self, args: &[Id]) -> Outcome<Node> {
        let Some(&list) = args.first() else {
            return Ok(Node::Dict(Vec::new()));
        };
        let Node::List(items) = &self.nodes[list] else {
            return Err("an OrderedDict is not made from a list".into());
        };
        self.copied += items.len();
        if self.copied > MAX_OPS {
            return Err("the pickle copies too many values".into());
        }
        items
            .iter()
            .map(|&item| match &self.nodes[item] {
                Node::List(pair) | Node::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                _ => Err("an OrderedDict is not made from pairs".to_owned()),
            })
            .collect::<Outcome<_>>()
            .map(Node::Dict)
    }

    /// `_rebuild_tensor(_v2)(storage, offset, shape, strides, ..)`.
    fn tensor(&self, args: &[Id]) -> Outcome<Node> {
        const BROKEN: &str = "a tensor's description is broken";
        let &[storage, offset, shape, strides, ..] = args else {
            return Err(BROKEN.into());
        };
        let (Node::Storage(storage), Some(offset)) =
            (&self.nodes[storage], unsigned(&self.nodes, offset))
        else {
            return Err(BROKEN.into());
        };
        let sizes = |id: Id| match &self.nodes[id] {
            Node::Tuple(items) if items.len() <= MAX_RANK => items
                .iter()
                .map(|&item| usize::try_from(unsigned(&self.nodes, item)?).ok())
                .collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides)) else {
            return Err(BROKEN.into());
        };
        if shape.len() != strides.len() {
            return Err(BROKEN.into());
        }
        Ok(Node::Tensor(TensorRef {
            storage: storage.clone(),
            offset,
            shape,
            strides,
        }))
    }

    /// `('storage', type, key, location, elements[, view])`, or the name of a tensor in a tar file.
    fn persistent(&mut self) -> Outcome<()> {
        let id = self.pop()?;
        let node = match &self.nodes[id] {
            Node::Tuple(parts) => Node::Storage(self.storage(parts)?),
            _ => Node::Persistent(text(&self.nodes, id).ok_or("a reference without a name")?),
        };
        self.push(node);
        Ok(())
    }

    fn storage(&self, parts: &[Id]) -> Outcome<StorageRef> {
        const BROKEN: &str = "a storage's description is broken";
        let &[kind, dtype, key, _location, elements, ref view @ ..] = parts else {
            return Err(BROKEN.into());
        };
        let (Node::Text(kind), Node::Global(Global::Storage(dtype))) =
            (&self.nodes[kind], &self.nodes[dtype])
        else {
            return Err(BROKEN.into());
        };
        let key = text(&self.nodes, key).ok_or(BROKEN)?;
        let mut elements = unsigned(&self.nodes, elements).ok_or(BROKEN)?;
        let mut base = 0;
        if &**kind != "storage" {
            return Err(format!("the pickle refers to a {kind}, not to a storage"));
        }
        if let Some(&view) = view.first()
            && let Node::Tuple(view) = &self.nodes[view]
        {
            let &[_, offset, size] = view.as_slice() else {
                return Err(BROKEN.into());
            };
            base = unsigned(&self.nodes, offset).ok_or(BROKEN)?;
            elements = unsigned(&self.nodes, size).ok_or(BROKEN)?;
        }
        Ok(StorageRef {
            key,
            dtype: *dtype,
            base,
            elements,
        })
    }

    fn push_global(&mut self, module: &str, name: &str) -> Outcome<()> {
        let global = Global::parse(module, name).ok_or_else(|| {
            format!("the pickle refers to `{module}.{name}`, which no state dict needs; it was refused and nothing was run")
        })?;
        self.push(Node::Global(global));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Outcome<()> {
        let target = self.top()?;
        match &mut self.nodes[target] {
            Node::List(list) => list.extend(items),
            Node::Opaque => {}
            _ => return Err("the pickle appends to something that is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Outcome<()> {
        let target = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("the pickle sets a key without a value".into());
        }
        match &mut self.nodes[target] {
            Node::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Node::Opaque => {}
            _ => return Err("the pickle sets items of something that is not a dict".into()),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Outcome<()> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Outcome<()> {
        let id = *self
            .memo
            .get(&slot)
            .ok_or("the pickle recalls a value that it never stored")?;
        self.stack.push(id);
        Ok(())
    }

    /// LONG1: little-endian two's complement. Only the magic number of old files is beyond 64 bits.
    fn long(&mut self) -> Outcome<()> {
        let [length] = self.bytes()?;
        let bytes = self.take(u64::from(length))?;
        let node = if bytes.len() > 8 {
            Node::Opaque
        } else {
            let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(&bytes);
            Node::Int(i64::from_le_bytes(wide))
        };
        self.push(node);
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn push_text(&mut self, length: u64) -> Outcome<()> {
        let bytes = self.take(length)?;
        let node = String::from_utf8(bytes).map_or(Node::Opaque, |text| Node::Text(text.into()));
        self.push(node);
        Ok(())
    }

    /// A value below the innermost mark is out of reach, as in Python.
    fn pop(&mut self) -> Outcome<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop_text(&mut self) -> Outcome<Rc<str>> {
        let id = self.pop()?;
        text(&self.nodes, id).ok_or_else(|| "a global name that is not text".into())
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop_to_mark(&mut self) -> Outcome<Vec<Id>> {
        let start = self.marks.pop().ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(start))
    }

    fn bytes<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.reader
            .read_exact(&mut bytes)
            .map_err(|_| TRUNCATED.to_owned())?;
        Ok(bytes)
    }

    /// Reads what is there before it reserves memory: a length in the file is only a claim.
    fn take(&mut self, length: u64) -> Outcome<Vec<u8>> {
        if length > MAX_TEXT {
            return Err(format!("the pickle has a text of {length} bytes"));
        }
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == length => Ok(bytes),
            _ => Err(TRUNCATED.into()),
        }
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = Vec::new();
        while line.len() < 256 {
            match self.bytes::<1>()? {
                [b'\n'] => {
                    return String::from_utf8(line).map_err(|_| "a name is not UTF-8".into());
                }
                [byte] => line.push(byte),
            }
        }
        Err("a global name is too long".into())
    }
}

const UNDERFLOW: &str = "the pickle's stack is empty where a value is needed";
const TRUNCATED: &str = "the pickle ends too early";
