//! How state becomes bytes and comes back: a plain binary form, written and read by the same list of fields.
//! Values of equal content have equal bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::{Blob, Storage};
use crate::error::YtError;
use crate::guid::Guid;

/// What can be written and read back.
pub(crate) trait Persist: Sized {
    /// Writes it.
    fn put(&self, writer: &mut Writer);
    /// Reads it.
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// Bytes that cannot be what was written: another version's, or a mistake here. Damage on disk is found before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed {what} at byte {offset} of a record")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) offset: usize,
}

/// Bytes that grow.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// What several places share is written once: its address, and its number.
    shared: HashMap<usize, u64>,
}

/// Bytes that are read from front to back.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    pub(crate) context: &'a mut Context,
}

/// What was read before and is referred to again.
#[derive(Debug)]
pub(crate) struct Context {
    storage: Storage,
    blobs: HashMap<u64, Arc<Blob>>,
    shared: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Context {
    /// Blobs are looked for in this storage.
    pub(crate) fn new(storage: Storage) -> Context {
        Context { storage, blobs: HashMap::new(), shared: Vec::new() }
    }

    fn blob(&mut self, number: u64, length: u64) -> Arc<Blob> {
        let storage = &self.storage;
        Arc::clone(self.blobs.entry(number).or_insert_with(|| Arc::new(storage.adopt(number, length))))
    }

    /// The numbers and lengths of the blobs that somebody else refers to.
    pub(crate) fn used_blobs(&self) -> BTreeMap<u64, u64> {
        let used = self.blobs.values().filter(|blob| Arc::strong_count(blob) > 1);
        used.map(|blob| (blob.number, blob.length)).collect()
    }

    /// Lets go of what nobody else refers to.
    pub(crate) fn forget(&mut self) {
        self.blobs.clear();
        self.shared.clear();
    }
}

impl Writer {
    /// Bytes as they are, without a length.
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes something only at its first place; later ones refer to it. The caller keeps it alive meanwhile.
    pub(crate) fn put_shared<T: Persist>(&mut self, value: &Arc<T>) {
        let next = self.shared.len() as u64;
        let address = Arc::as_ptr(value).addr();
        let number = *self.shared.entry(address).or_insert(next);
        number.put(self);
        if number == next {
            value.as_ref().put(self);
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub(crate) fn new(bytes: &'a [u8], context: &'a mut Context) -> Reader<'a> {
        Reader { bytes, offset: 0, context }
    }

    /// Whether all has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.offset == self.bytes.len()
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.offset }
    }

    fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.offset.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.malformed("length"))?;
        let bytes = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let malformed = self.malformed("number");
        self.raw(N)?.try_into().map_err(|_| malformed)
    }

    /// A length, which cannot be more than there are bytes for `least` of each.
    fn length(&mut self, least: usize) -> Result<usize, Malformed> {
        let length = u64::take(self)?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= (self.bytes.len() - self.offset) / least.max(1))
            .ok_or_else(|| self.malformed("length"))
    }

    pub(crate) fn take_shared<T: Persist + Send + Sync + 'static>(&mut self) -> Result<Arc<T>, Malformed> {
        let number = usize::try_from(u64::take(self)?).unwrap_or(usize::MAX);
        if number == self.context.shared.len() {
            // What it holds itself is never shared, so this place is still the next one.
            let value = Arc::new(T::take(self)?);
            self.context.shared.push(value.clone());
            return Ok(value);
        }
        let known = self.context.shared.get(number).cloned();
        known.and_then(|known| known.downcast::<T>().ok()).ok_or_else(|| self.malformed("reference"))
    }
}

/// The same fields in the same order, both ways.
macro_rules! persist_struct {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::storage::codec::Persist for $type {
            fn put(&self, writer: &mut $crate::storage::codec::Writer) {
                // Names all fields, so that none is forgotten.
                let $type { $($field),* } = self;
                $( $crate::storage::codec::Persist::put($field, writer); )*
            }
            fn take(
                reader: &mut $crate::storage::codec::Reader<'_>,
            ) -> Result<Self, $crate::storage::codec::Malformed> {
                $( let $field = $crate::storage::codec::Persist::take(reader)?; )*
                Ok($type { $($field),* })
            }
        }
    };
}

/// The same variants with the same numbers, both ways. Variants hold one value each, or none.
macro_rules! persist_enum {
    ($type:ident { $($number:literal => $variant:ident $(($inner:ident))?),* $(,)? }) => {
        impl $crate::storage::codec::Persist for $type {
            fn put(&self, writer: &mut $crate::storage::codec::Writer) {
                match self {
                    $( $type::$variant $(($inner))? => {
                        writer.bytes.push($number);
                        $( $crate::storage::codec::Persist::put($inner, writer); )?
                    } )*
                }
            }
            fn take(
                reader: &mut $crate::storage::codec::Reader<'_>,
            ) -> Result<Self, $crate::storage::codec::Malformed> {
                match <u8 as $crate::storage::codec::Persist>::take(reader)? {
                    $( $number => Ok($type::$variant $(({
                        let $inner = $crate::storage::codec::Persist::take(reader)?;
                        $inner
                    }))?), )*
                    _ => Err(reader.malformed(stringify!($type))),
                }
            }
        }
    };
}
pub(crate) use {persist_enum, persist_struct};

// === numbers and texts ===

macro_rules! persist_number {
    ($($type:ty),*) => { $(
        impl Persist for $type {
            fn put(&self, writer: &mut Writer) {
                writer.raw(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(<$type>::from_le_bytes(reader.array()?))
            }
        }
    )* };
}
persist_number!(u8, u32, i32, u64, i64, f64);

impl Persist for usize {
    fn put(&self, writer: &mut Writer) {
        (*self as u64).put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        usize::try_from(u64::take(reader)?).map_err(|_| reader.malformed("number"))
    }
}

impl Persist for bool {
    fn put(&self, writer: &mut Writer) {
        u8::from(*self).put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.malformed("flag")),
        }
    }
}

impl Persist for [u8; 16] {
    fn put(&self, writer: &mut Writer) {
        writer.raw(self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array()
    }
}

impl Persist for Vec<u8> {
    fn put(&self, writer: &mut Writer) {
        self.len().put(writer);
        writer.raw(self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length(1)?;
        Ok(reader.raw(length)?.to_vec())
    }
}

impl Persist for String {
    fn put(&self, writer: &mut Writer) {
        self.len().put(writer);
        writer.raw(self.as_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        String::from_utf8(Vec::take(reader)?).map_err(|_| reader.malformed("text"))
    }
}

impl Persist for Guid {
    fn put(&self, writer: &mut Writer) {
        for part in self.parts() {
            part.put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut parts = [0u32; 4];
        for part in &mut parts {
            *part = u32::take(reader)?;
        }
        Ok(Guid::from_parts(parts))
    }
}

impl Persist for Duration {
    fn put(&self, writer: &mut Writer) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Duration::from_nanos(u64::take(reader)?))
    }
}

// === collections ===

impl<T: Persist> Persist for Option<T> {
    fn put(&self, writer: &mut Writer) {
        self.is_some().put(writer);
        if let Some(value) = self {
            value.put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if bool::take(reader)? { Some(T::take(reader)?) } else { None })
    }
}

impl<A: Persist, B: Persist> Persist for (A, B) {
    fn put(&self, writer: &mut Writer) {
        self.0.put(writer);
        self.1.put(writer);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

macro_rules! persist_list {
    ($(($($bound:ident)+) $type:ty),*) => { $(
        impl<T: Persist $(+ $bound)+> Persist for $type {
            fn put(&self, writer: &mut Writer) {
                self.len().put(writer);
                for item in self {
                    item.put(writer);
                }
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let length = reader.length(1)?;
                (0..length).map(|_| T::take(reader)).collect()
            }
        }
    )* };
}
persist_list!((Ord) BTreeSet<T>, (Sized) VecDeque<T>);

/// A marker: `Vec<u8>` has a form of its own, so lists of other things say that they are.
pub(crate) trait Item: Persist {}
impl Item for usize {}
impl Item for Guid {}
impl Item for String {}
impl Item for YsonValue {}
impl Item for YtError {}
impl<K: Persist, V: Persist> Item for BTreeMap<K, V> where K: Ord {}

impl<T: Item> Persist for Vec<T> {
    fn put(&self, writer: &mut Writer) {
        self.len().put(writer);
        for item in self {
            item.put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length(1)?;
        (0..length).map(|_| T::take(reader)).collect()
    }
}

impl<K: Persist + Ord, V: Persist> Persist for BTreeMap<K, V> {
    fn put(&self, writer: &mut Writer) {
        self.len().put(writer);
        for (key, value) in self {
            key.put(writer);
            value.put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length(1)?;
        (0..length).map(|_| Ok((K::take(reader)?, V::take(reader)?))).collect()
    }
}

// === values, errors, blobs ===

impl Persist for YsonValue {
    fn put(&self, writer: &mut Writer) {
        self.attributes.put(writer);
        let tag = |writer: &mut Writer, tag: u8| writer.bytes.push(tag);
        match &self.node {
            YsonNode::Entity => tag(writer, 0),
            YsonNode::Boolean(value) => (1u8, *value).put(writer),
            YsonNode::Int64(value) => (2u8, *value).put(writer),
            YsonNode::Uint64(value) => (3u8, *value).put(writer),
            YsonNode::Double(value) => (4u8, *value).put(writer),
            YsonNode::String(value) => {
                tag(writer, 5);
                value.put(writer);
            }
            YsonNode::List(value) => {
                tag(writer, 6);
                value.put(writer);
            }
            YsonNode::Map(value) => {
                tag(writer, 7);
                value.put(writer);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let attributes = Persist::take(reader)?;
        let node = match u8::take(reader)? {
            0 => YsonNode::Entity,
            1 => YsonNode::Boolean(Persist::take(reader)?),
            2 => YsonNode::Int64(Persist::take(reader)?),
            3 => YsonNode::Uint64(Persist::take(reader)?),
            4 => YsonNode::Double(Persist::take(reader)?),
            5 => YsonNode::String(Persist::take(reader)?),
            6 => YsonNode::List(Persist::take(reader)?),
            7 => YsonNode::Map(Persist::take(reader)?),
            _ => return Err(reader.malformed("value")),
        };
        Ok(YsonValue { attributes, node })
    }
}

persist_struct!(YtError { code, message, attributes, inner });

impl Persist for super::Content {
    fn put(&self, writer: &mut Writer) {
        self.blobs.len().put(writer);
        for blob in &self.blobs {
            (blob.number, blob.length).put(writer);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.length(16)?;
        let mut blobs = Vec::with_capacity(count);
        for _ in 0..count {
            let (number, length) = Persist::take(reader)?;
            blobs.push(reader.context.blob(number, length));
        }
        Ok(super::Content { blobs })
    }
}
