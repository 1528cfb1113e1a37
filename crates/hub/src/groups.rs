//! Groups: named sets of uids, managed by the backend.
//!
//! A membership belongs to the uid and not to a connection: it stays while the page reloads, and a member that is not
//! connected is simply not reached.

use std::collections::{HashMap, HashSet};

use doorbell_protocol::Uid;
use parking_lot::Mutex;

/// Groups in all, and members of one group: bounds against a backend that only ever adds.
const MAX_GROUPS: usize = 100_000;
const MAX_MEMBERS: usize = 100_000;
const MAX_NAME_BYTES: usize = 128;

/// Why a membership could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A group's name has 1 to 128 bytes.
    #[error("join: a group's name has 1 to {MAX_NAME_BYTES} bytes")]
    Name,
    /// There are as many groups as there may be.
    #[error("join: there are already {MAX_GROUPS} groups")]
    TooManyGroups,
    /// The group has as many members as it may have.
    #[error("join: the group already has {MAX_MEMBERS} members")]
    TooManyMembers,
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: Mutex<HashMap<Box<str>, HashSet<Uid>>>,
}

impl Groups {
    pub(crate) fn join(&self, group: &str, uid: &Uid) -> Result<bool, GroupError> {
        if group.is_empty() || group.len() > MAX_NAME_BYTES {
            return Err(GroupError::Name);
        }
        let mut groups = self.members.lock();
        if let Some(members) = groups.get_mut(group) {
            if members.len() >= MAX_MEMBERS && !members.contains(uid) {
                return Err(GroupError::TooManyMembers);
            }
            return Ok(members.insert(uid.clone()));
        }
        if groups.len() >= MAX_GROUPS {
            return Err(GroupError::TooManyGroups);
        }
        groups.insert(group.into(), HashSet::from([uid.clone()]));
        Ok(true)
    }

    pub(crate) fn leave(&self, group: &str, uid: &str) -> bool {
        let mut groups = self.members.lock();
        let Some(members) = groups.get_mut(group) else { return false };
        let left = members.remove(uid);
        if members.is_empty() {
            groups.remove(group);
        }
        left
    }

    pub(crate) fn members(&self, group: &str) -> Vec<Uid> {
        self.members.lock().get(group).map_or_else(Vec::new, |members| members.iter().cloned().collect())
    }
}
