//! The messages of the `pgoutput` plugin, protocol 1, as far as changes need them.
//!
//! Begin and commit are taken apart by the transport. Values come as text and stay slices of the message they came in.

use bytes::{Buf as _, Bytes};

/// Why a message could not be read: the server and we disagree about the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a pgoutput message ends too early")]
    Truncated,
    #[error("a name in a pgoutput message is not UTF-8")]
    Utf8,
    #[error("unknown tag `{}` in a pgoutput message", char::from(*.0))]
    Tag(u8),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Relation(RelationMessage),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<OldTuple>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: OldTuple,
    },
    /// Origins, types, truncations and logical messages: nothing is made of them.
    Other,
}

/// What a table looked like when the changes that follow were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationMessage {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) identity: Identity,
    pub(crate) columns: Vec<Column>,
}

/// The replica identity of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

/// A published column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Part of the replica identity.
    pub(crate) is_key: bool,
    pub(crate) type_oid: u32,
}

/// The old row of an update or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OldTuple {
    /// Only the columns of the replica identity have values.
    Key(Tuple),
    /// The whole row.
    Row(Tuple),
}

impl OldTuple {
    pub(crate) fn tuple(&self) -> &Tuple {
        match self {
            Self::Key(tuple) | Self::Row(tuple) => tuple,
        }
    }
}

/// The values of a row, one for each published column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tuple(pub(crate) Vec<Cell>);

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    /// A `TOAST`ed value that the update did not touch; it was not sent.
    Unchanged,
    /// The text PostgreSQL prints.
    Text(Bytes),
}

impl Tuple {
    pub(crate) fn get(&self, column: usize) -> &Cell {
        self.0.get(column).unwrap_or(&Cell::Null)
    }

    /// Bytes of all values, to bound what is kept.
    pub(crate) fn bytes(&self) -> usize {
        let cell = |cell: &Cell| match cell {
            Cell::Text(text) => text.len(),
            Cell::Null | Cell::Unchanged => 0,
        };
        self.0.iter().map(cell).sum::<usize>() + self.0.len() * size_of::<Cell>()
    }
}

impl Message {
    pub(crate) fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let mut rest = Rest(message);
        Ok(match rest.byte()? {
            b'R' => Self::Relation(rest.relation()?),
            b'I' => {
                let relation = rest.oid()?;
                match rest.byte()? {
                    b'N' => Self::Insert {
                        relation,
                        new: rest.tuple()?,
                    },
                    tag => return Err(DecodeError::Tag(tag)),
                }
            }
            b'U' => {
                let relation = rest.oid()?;
                let mut tag = rest.byte()?;
                let mut old = None;
                if tag != b'N' {
                    old = Some(rest.old_tuple(tag)?);
                    tag = rest.byte()?;
                }
                if tag != b'N' {
                    return Err(DecodeError::Tag(tag));
                }
                Self::Update {
                    relation,
                    old,
                    new: rest.tuple()?,
                }
            }
            b'D' => {
                let relation = rest.oid()?;
                let tag = rest.byte()?;
                Self::Delete {
                    relation,
                    old: rest.old_tuple(tag)?,
                }
            }
            b'O' | b'Y' | b'T' | b'M' | b'B' | b'C' => Self::Other,
            tag => return Err(DecodeError::Tag(tag)),
        })
    }
}

struct Rest(Bytes);

impl Rest {
    fn need(&self, bytes: usize) -> Result<(), DecodeError> {
        (self.0.len() >= bytes)
            .then_some(())
            .ok_or(DecodeError::Truncated)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn count(&mut self) -> Result<u16, DecodeError> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    fn oid(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(DecodeError::Truncated)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| DecodeError::Utf8)
    }

    fn relation(&mut self) -> Result<RelationMessage, DecodeError> {
        let oid = self.oid()?;
        let schema = self.text()?;
        let table = self.text()?;
        let identity = match self.byte()? {
            b'd' => Identity::Default,
            b'n' => Identity::Nothing,
            b'f' => Identity::Full,
            b'i' => Identity::Index,
            tag => return Err(DecodeError::Tag(tag)),
        };
        let count = self.count()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let is_key = self.byte()? & 1 == 1;
            let name = self.text()?;
            let type_oid = self.oid()?;
            self.oid()?; // the type modifier
            columns.push(Column {
                name,
                is_key,
                type_oid,
            });
        }
        let schema = if schema.is_empty() {
            "pg_catalog".to_owned()
        } else {
            schema
        };
        Ok(RelationMessage {
            oid,
            schema,
            table,
            identity,
            columns,
        })
    }

    fn old_tuple(&mut self, tag: u8) -> Result<OldTuple, DecodeError> {
        match tag {
            b'K' => Ok(OldTuple::Key(self.tuple()?)),
            b'O' => Ok(OldTuple::Row(self.tuple()?)),
            tag => Err(DecodeError::Tag(tag)),
        }
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = self.count()?;
        let mut cells = Vec::with_capacity(usize::from(count).min(self.0.len()));
        for _ in 0..count {
            cells.push(match self.byte()? {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => {
                    let length =
                        usize::try_from(self.oid()?).map_err(|_| DecodeError::Truncated)?;
                    self.need(length)?;
                    Cell::Text(self.0.split_to(length))
                }
                tag => return Err(DecodeError::Tag(tag)),
            });
        }
        Ok(Tuple(cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn update() -> Vec<u8> {
        let mut bytes = vec![
            b'U', 0, 0, 0x40, 1, b'K', 0, 2, b't', 0, 0, 0, 1, b'7', b'n',
        ];
        bytes.extend([b'N', 0, 2, b't', 0, 0, 0, 1, b'8', b'u']);
        bytes
    }

    #[test]
    fn an_update_has_its_old_key_and_its_new_row() {
        let text = |text: &'static str| Cell::Text(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            Message::decode(update().into()).unwrap(),
            Message::Update {
                relation: 0x4001,
                old: Some(OldTuple::Key(Tuple(vec![text("7"), Cell::Null]))),
                new: Tuple(vec![text("8"), Cell::Unchanged]),
            }
        );
    }

    #[test]
    fn a_relation_names_its_columns_and_identity() {
        let mut bytes = vec![b'R', 0, 0, 0x40, 1];
        bytes.extend(b"public\0t\0d");
        bytes.extend([0, 1, 1]);
        bytes.extend(b"id\0");
        bytes.extend([0, 0, 0, 23, 0xff, 0xff, 0xff, 0xff]);
        let Message::Relation(relation) = Message::decode(bytes.into()).unwrap() else {
            panic!("a relation");
        };
        assert_eq!(
            (relation.schema.as_str(), relation.table.as_str()),
            ("public", "t")
        );
        assert_eq!(relation.identity, Identity::Default);
        let id = Column {
            name: "id".to_owned(),
            is_key: true,
            type_oid: 23,
        };
        assert_eq!(relation.columns, [id]);
    }

    #[test]
    fn every_cut_of_a_message_is_an_error() {
        let whole = update();
        for end in 0..whole.len() {
            assert!(
                Message::decode(Bytes::copy_from_slice(&whole[..end])).is_err(),
                "{end}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in any::<Vec<u8>>(), tag in prop::sample::select(b"RIUD".to_vec())) {
            let _ = Message::decode(bytes.clone().into());
            let tagged: Vec<u8> = std::iter::once(tag).chain(bytes).collect();
            let _ = Message::decode(tagged.into());
        }
    }
}
