//! What `torch.save` writes: a zip archive since PyTorch 1.6, a row of pickles before.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Node, Pickle, TensorRef};
use super::scope::Scope;
use super::{Container, Contents, Entry};

/// First bytes of the legacy format: the pickle of torch's magic number.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A state dict's pickle is some 100 KB; with an optimiser's state, a few MB.
const MAX_PICKLE: u64 = 64 << 20;

/// Where a storage's data begins in the file, and how many bytes it has.
pub(super) type Storages = HashMap<Rc<str>, (u64, u64)>;

pub(super) fn read_zip(file: &File, length: u64, scope: Scope) -> Result<Contents, String> {
    let damaged = |error: zip::result::ZipError| format!("the zip archive is damaged: {error}");
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let root = archive
        .file_names()
        .find_map(|name| name.strip_suffix("data.pkl"))
        .ok_or("a zip archive without data.pkl: not a file of torch.save")?
        .to_owned();
    let mut pickle = Vec::new();
    archive
        .by_name(&format!("{root}data.pkl"))
        .map_err(damaged)?
        .take(MAX_PICKLE)
        .read_to_end(&mut pickle)
        .map_err(|error| error.to_string())?;
    if let Ok(order) = archive.by_name(&format!("{root}byteorder")) {
        let mut text = String::new();
        let read = order.take(16).read_to_string(&mut text);
        if read.is_err() || text != "little" {
            return Err("the file is not little-endian".into());
        }
    }
    let data = format!("{root}data/");
    let mut storages = Storages::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(damaged)?;
        let Some(key) = entry.name().strip_prefix(&data) else {
            continue;
        };
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err("the archive is compressed or encrypted; torch.save stores plainly".into());
        }
        let start = entry.data_start().ok_or("the zip archive is damaged")?;
        let size = entry.size().min(length.saturating_sub(start));
        storages.insert(key.into(), (start, size));
    }
    let pickle = Pickle::read(&mut pickle.as_slice())?;
    collect(Container::TorchZip, &pickle, &storages, scope)
}

pub(super) fn read_legacy(file: &File, length: u64, scope: Scope) -> Result<Contents, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut reader = BufReader::new(file);
    let _magic = Pickle::read(&mut reader)?;
    let _protocol = Pickle::read(&mut reader)?;
    expect_little_endian(&Pickle::read(&mut reader)?)?;
    let pickle = Pickle::read(&mut reader)?;
    let keys = Pickle::read(&mut reader)?;
    let Node::List(ids) = keys.root() else {
        return Err("the list of storages is missing".into());
    };
    // Storages follow in this order, each after its number of elements; their types are in the pickle.
    let sizes: HashMap<_, _> = pickle
        .nodes
        .iter()
        .filter_map(|node| match node {
            Node::Storage(storage) => Some((Rc::clone(&storage.key), storage.dtype.size())),
            _ => None,
        })
        .collect();
    let mut storages = Storages::new();
    let mut position = reader.stream_position().map_err(text)?;
    for &id in ids {
        let key = keys.text(id).ok_or("a storage without a name")?;
        let element = *sizes.get(&key).ok_or("a storage that nothing refers to")?;
        let mut count = [0; 8];
        reader.seek(SeekFrom::Start(position)).map_err(text)?;
        reader
            .read_exact(&mut count)
            .map_err(|_| "the file is cut off in its data")?;
        let start = position + 8;
        let size = u64::from_le_bytes(count)
            .checked_mul(element as u64)
            .filter(|&size| size <= length - start)
            .ok_or("the file is cut off in its data")?;
        storages.insert(key, (start, size));
        position = start + size;
    }
    collect(Container::TorchLegacy, &pickle, &storages, scope)
}

/// `sys_info` of the two old formats.
pub(super) fn expect_little_endian(info: &Pickle) -> Result<(), String> {
    let Node::Dict(items) = info.root() else {
        return Err("the system information is damaged".into());
    };
    let big = items.iter().any(|&(key, value)| {
        info.text(key).as_deref() == Some("little_endian")
            && matches!(info.nodes[value], Node::Bool(false))
    });
    if big {
        return Err("the file is not little-endian".into());
    }
    Ok(())
}

/// Finds the tensors and places them in the file.
fn collect(
    container: Container,
    pickle: &Pickle,
    storages: &Storages,
    scope: Scope,
) -> Result<Contents, String> {
    let (wrapper, items) = scope.tensors(pickle, |node| matches!(node, Node::Tensor(_)))?;
    let mut entries = BTreeMap::new();
    for (name, id) in items {
        if let Node::Tensor(tensor) = &pickle.nodes[id] {
            let entry = place(tensor, storages)
                .ok_or_else(|| format!("{name} lies outside the file's data"))?;
            entries.insert(name, entry);
        }
    }
    Ok(Contents {
        container,
        wrapper,
        entries,
        metadata: BTreeMap::new(),
    })
}

pub(super) fn place(tensor: &TensorRef, storages: &Storages) -> Option<Entry> {
    let storage = &tensor.storage;
    let element = storage.dtype.size() as u64;
    let &(start, size) = storages.get(&storage.key)?;
    let end = storage
        .base
        .checked_add(storage.elements)?
        .checked_mul(element)?;
    let first = storage
        .base
        .checked_add(tensor.offset)?
        .checked_mul(element)?;
    let available = end.min(size).checked_sub(first)?;
    let start = start.checked_add(first)?;
    Entry::new(
        tensor.shape.clone(),
        tensor.strides.clone(),
        storage.dtype,
        start,
        available,
    )
}
