//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use safetensors::tensor::{Dtype as Stored, Metadata};

use super::{Container, Contents, Dtype, Entry};

/// The format's own limit (100 MB) is far above any header we can meet.
const MAX_HEADER: u64 = 16 << 20;

/// Whether the file begins with a plausible header length and a JSON object.
pub(super) fn looks_like(head: &[u8], length: u64) -> bool {
    header_length(head).is_some_and(|header| header <= length.saturating_sub(8).max(MAX_HEADER))
        && head.get(8) == Some(&b'{')
}

fn header_length(head: &[u8]) -> Option<u64> {
    head.first_chunk().map(|&bytes| u64::from_le_bytes(bytes))
}

pub(super) fn read(file: &mut File, length: u64) -> Result<Contents, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(text)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size > length - 8 {
        return Err("the safetensors header is cut off".into());
    }
    let data = 8 + size;
    file.seek(SeekFrom::Start(8)).map_err(text)?;
    let mut header = String::new();
    file.by_ref()
        .take(size)
        .read_to_string(&mut header)
        .map_err(text)?;
    let header: Metadata = serde_json::from_str(header.trim_end())
        .map_err(|error| format!("the safetensors header is damaged: {error}"))?;
    let mut entries = BTreeMap::new();
    for (name, info) in header.tensors() {
        let dtype = dtype(info.dtype)
            .ok_or_else(|| format!("{name} has the unsupported type {:?}", info.dtype))?;
        let (begin, end) = info.data_offsets;
        let (begin, end) = (begin as u64, end as u64);
        let entry = end
            .checked_sub(begin)
            .filter(|_| end <= length - data)
            .and_then(|size| {
                let strides = row_major(&info.shape)?;
                let entry = Entry::new(info.shape.clone(), strides, dtype, data + begin, size)?;
                (entry.span * dtype.size() == end as usize - begin as usize).then_some(entry)
            })
            .ok_or_else(|| format!("{name} does not fit in the file: it is cut off or damaged"))?;
        entries.insert(name, entry);
    }
    if entries.is_empty() {
        return Err("the safetensors file holds no tensors".into());
    }
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Contents {
        container: Container::Safetensors,
        wrapper: None,
        entries,
        metadata: metadata.into_iter().collect(),
    })
}

fn row_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].checked_mul(shape[axis])?;
    }
    Some(strides)
}

fn dtype(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}
