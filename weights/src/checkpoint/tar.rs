//! `torch.save` before PyTorch 0.2: a tar archive of `sys_info`, `storages`, `tensors`, `pickle`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::pickle::{Global, Node, Pickle, StorageRef, TensorRef};
use super::scope::Scope;
use super::torch::{Storages, expect_little_endian, place};
use super::{Container, Contents, Dtype, Entry};

const BLOCK: u64 = 512;
const CUT_OFF: &str = "the tar archive is cut off or damaged";
/// Files of that time hold a few hundred tensors.
const MAX_MEMBERS: u64 = 100_000;

/// Position and size of the archive's members.
type Members = HashMap<String, (u64, u64)>;

pub(super) fn read(file: &mut File, length: u64, scope: Scope) -> Result<Contents, String> {
    let members = members(file, length)?;
    let mut reader = BufReader::new(&*file);
    let open = |name: &str| {
        let &(start, size) = members
            .get(name)
            .ok_or_else(|| format!("a tar archive without `{name}`: not a file of torch.save"))?;
        Ok::<_, String>((start, start + size))
    };
    let (sys_info, storages, tensors, pickle) = (
        open("sys_info")?,
        open("storages")?,
        open("tensors")?,
        open("pickle")?,
    );
    seek(&mut reader, sys_info.0)?;
    expect_little_endian(&Pickle::read(&mut reader)?)?;
    seek(&mut reader, storages.0)?;
    let (storages, types) = read_storages(&mut reader, storages.1)?;
    seek(&mut reader, tensors.0)?;
    let tensors = read_tensors(&mut reader, &types, &storages)?;
    seek(&mut reader, pickle.0)?;
    let pickle = Pickle::read(&mut reader)?;
    let is_tensor =
        |node: &Node| matches!(node, Node::Persistent(key) if tensors.contains_key(key));
    let (wrapper, items) = scope.tensors(&pickle, is_tensor)?;
    let mut entries = BTreeMap::new();
    for (name, id) in items {
        if let Node::Persistent(key) = &pickle.nodes[id]
            && let Some(entry) = tensors.get(key)
        {
            entries.insert(name, entry.clone());
        }
    }
    Ok(Contents {
        container: Container::TorchTar,
        wrapper,
        entries,
        metadata: BTreeMap::new(),
    })
}

fn members(file: &mut File, length: u64) -> Result<Members, String> {
    let mut members = Members::new();
    let mut position = 0;
    while position + BLOCK <= length {
        let mut header = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(position))
            .and_then(|_| file.read_exact(&mut header))
            .map_err(|_| CUT_OFF)?;
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = header[range].split(|&byte| byte == 0).next()?;
            Some(std::str::from_utf8(field).ok()?.trim().to_owned())
        };
        let name = text(0..100).ok_or(CUT_OFF)?;
        let size = text(124..136)
            .and_then(|digits| u64::from_str_radix(&digits, 8).ok())
            .ok_or(CUT_OFF)?;
        let start = position + BLOCK;
        if size > length - start {
            return Err(CUT_OFF.into());
        }
        let name = name.strip_prefix("./").unwrap_or(&name);
        members.insert(name.to_owned(), (start, size));
        position = start + size.next_multiple_of(BLOCK);
    }
    Ok(members)
}

/// A count, then per storage the pickle `(key, location, type)`, the number of elements, the data.
fn read_storages(
    reader: &mut BufReader<&File>,
    end: u64,
) -> Result<(Storages, HashMap<Rc<str>, Dtype>), String> {
    let mut storages = Storages::new();
    let mut types = HashMap::new();
    for _ in 0..count(reader)? {
        let pickle = Pickle::read(reader)?;
        let Node::Tuple(parts) = pickle.root() else {
            return Err(CUT_OFF.into());
        };
        let &[key, _location, dtype] = parts.as_slice() else {
            return Err(CUT_OFF.into());
        };
        let (Some(key), Node::Global(Global::Storage(dtype))) =
            (pickle.text(key), &pickle.nodes[dtype])
        else {
            return Err(CUT_OFF.into());
        };
        let elements = u64::from_le_bytes(bytes(reader)?);
        let start = reader.stream_position().map_err(|_| CUT_OFF)?;
        let size = elements
            .checked_mul(dtype.size() as u64)
            .filter(|&size| size <= end.saturating_sub(start))
            .ok_or(CUT_OFF)?;
        seek(reader, start + size)?;
        storages.insert(Rc::clone(&key), (start, size));
        types.insert(key, *dtype);
    }
    read_views(reader, &mut storages, &mut types)?;
    Ok((storages, types))
}

/// A list of `(name, storage, offset, elements)`: names for parts of storages.
fn read_views(
    reader: &mut BufReader<&File>,
    storages: &mut Storages,
    types: &mut HashMap<Rc<str>, Dtype>,
) -> Result<(), String> {
    let pickle = Pickle::read(reader)?;
    let (Node::List(views) | Node::Tuple(views)) = pickle.root() else {
        return Err(CUT_OFF.into());
    };
    for &view in views {
        let place = || {
            let Node::Tuple(parts) = &pickle.nodes[view] else {
                return None;
            };
            let &[name, root, offset, elements] = parts.as_slice() else {
                return None;
            };
            let root = pickle.text(root)?;
            let dtype = *types.get(&root)?;
            let &(start, size) = storages.get(&root)?;
            let element = dtype.size() as u64;
            let offset = pickle.int(offset)?.checked_mul(element)?;
            let wanted = pickle.int(elements)?.checked_mul(element)?;
            (wanted <= size.checked_sub(offset)?)
                .then(|| Some((pickle.text(name)?, (start + offset, wanted), dtype)))?
        };
        let (name, span, dtype) = place().ok_or(CUT_OFF)?;
        storages.insert(Rc::clone(&name), span);
        types.insert(name, dtype);
    }
    Ok(())
}

/// A count, then per tensor the pickle `(key, storage, type)`, its rank, sizes, strides and offset.
fn read_tensors(
    reader: &mut BufReader<&File>,
    types: &HashMap<Rc<str>, Dtype>,
    storages: &Storages,
) -> Result<HashMap<Rc<str>, Entry>, String> {
    let mut tensors = HashMap::new();
    for _ in 0..count(reader)? {
        let pickle = Pickle::read(reader)?;
        let Node::Tuple(parts) = pickle.root() else {
            return Err(CUT_OFF.into());
        };
        let &[key, storage, _type] = parts.as_slice() else {
            return Err(CUT_OFF.into());
        };
        let (Some(key), Some(storage)) = (pickle.text(key), pickle.text(storage)) else {
            return Err(CUT_OFF.into());
        };
        let rank = u32::from_le_bytes(bytes(reader)?);
        let _padding: [u8; 4] = bytes(reader)?;
        if rank > 8 {
            return Err(CUT_OFF.into());
        }
        let mut sizes = || -> Result<Vec<usize>, String> {
            (0..rank)
                .map(|_| {
                    usize::try_from(u64::from_le_bytes(bytes(reader)?)).map_err(|_| CUT_OFF.into())
                })
                .collect()
        };
        let (shape, strides) = (sizes()?, sizes()?);
        let offset = u64::from_le_bytes(bytes(reader)?);
        let (&dtype, &(_, size)) = types
            .get(&storage)
            .zip(storages.get(&storage))
            .ok_or(CUT_OFF)?;
        let tensor = TensorRef {
            storage: StorageRef {
                key: storage,
                dtype,
                base: 0,
                elements: size / dtype.size() as u64,
            },
            offset,
            shape,
            strides,
        };
        let entry = place(&tensor, storages).ok_or(CUT_OFF)?;
        tensors.insert(key, entry);
    }
    Ok(tensors)
}

fn count(reader: &mut BufReader<&File>) -> Result<u64, String> {
    let pickle = Pickle::read(reader)?;
    pickle
        .int(pickle.root)
        .filter(|&count| count <= MAX_MEMBERS)
        .ok_or_else(|| CUT_OFF.into())
}

fn bytes<const N: usize>(reader: &mut BufReader<&File>) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|_| CUT_OFF)?;
    Ok(bytes)
}

fn seek(reader: &mut BufReader<&File>, position: u64) -> Result<(), String> {
    reader
        .seek(SeekFrom::Start(position))
        .map(|_| ())
        .map_err(|_| CUT_OFF.into())
}
