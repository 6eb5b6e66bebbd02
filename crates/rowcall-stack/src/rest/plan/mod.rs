//! From a parsed request and the schema cache to a plan: every name resolved, every rule checked.

mod call;
mod condition;
mod read;
mod write;

pub(crate) use call::{Arguments, CallInput, CallPlan, choose_routine, plan_call};
pub(crate) use condition::{Condition, Order};
pub(super) use read::output_name;
pub(crate) use read::{Qualifier, ReadNode, Root, Source, plan_read};
pub(crate) use write::{Returning, WriteKind, WritePlan, WriteRequest, plan_write};

/// The main thing a statement does.
#[derive(Debug)]
pub(crate) enum Plan<'a> {
    /// Read a relation.
    Read(ReadNode<'a>),
    /// Write to a relation, then read what was written if that is wanted.
    Write(WritePlan<'a>, ReadNode<'a>),
    /// Call a function and read its result.
    Call(CallPlan<'a>, ReadNode<'a>),
}

impl<'a> Plan<'a> {
    /// The part that shapes the answer.
    pub(crate) fn shape(&self) -> &ReadNode<'a> {
        match self {
            Self::Read(node) | Self::Write(_, node) | Self::Call(_, node) => node,
        }
    }
}
