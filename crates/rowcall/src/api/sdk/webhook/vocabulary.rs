//! The events, under their canonical names and every published alias.

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::sdk) enum Event {
    Trigger,
    Ping,
    Claimed,
    Started,
    Progress,
    Completed,
    Failed,
    Canceled,
}

impl Event {
    pub(in crate::api::sdk) const ALL: [Self; 8] = [
        Self::Trigger,
        Self::Ping,
        Self::Claimed,
        Self::Started,
        Self::Progress,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    /// The names of older SDKs, and of agents' scripts.
    pub(in crate::api::sdk) const ALIASES: [(&'static str, Self); 21] = [
        ("trigger-agent", Self::Trigger),
        ("ping", Self::Ping),
        ("claim", Self::Claimed),
        ("claimed", Self::Claimed),
        ("task-start", Self::Started),
        ("start", Self::Started),
        ("task-progress", Self::Progress),
        ("progress", Self::Progress),
        ("processing", Self::Progress),
        ("task-complete", Self::Completed),
        ("complete", Self::Completed),
        ("completed", Self::Completed),
        ("task-fail", Self::Failed),
        ("fail", Self::Failed),
        ("failed", Self::Failed),
        ("task-cancel", Self::Canceled),
        ("task-cancelled", Self::Canceled),
        ("task-canceled", Self::Canceled),
        ("cancel", Self::Canceled),
        ("cancelled", Self::Canceled),
        ("canceled", Self::Canceled),
    ];

    /// An event by any of its names, in lower case.
    pub(in crate::api::sdk) fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|event| event.name() == word)
            .or_else(|| {
                Self::ALIASES
                    .iter()
                    .find(|(alias, _)| *alias == word)
                    .map(|(_, event)| *event)
            })
    }

    /// The canonical name.
    pub(in crate::api::sdk) fn name(self) -> &'static str {
        match self {
            Self::Trigger => "task.trigger",
            Self::Ping => "system.ping",
            Self::Claimed => "task.claimed",
            Self::Started => "task.started",
            Self::Progress => "task.progress",
            Self::Completed => "task.completed",
            Self::Failed => "task.failed",
            Self::Canceled => "task.canceled",
        }
    }

    /// The word of the oldest callbacks.
    pub(in crate::api::sdk) fn legacy_action(self) -> &'static str {
        match self {
            Self::Trigger => "trigger-agent",
            Self::Ping => "ping",
            Self::Claimed => "claim",
            Self::Started => "start",
            Self::Progress => "progress",
            Self::Completed => "complete",
            Self::Failed => "fail",
            Self::Canceled => "cancel",
        }
    }

    /// The status that a task has after it.
    pub(in crate::api::sdk) fn status(self) -> Option<&'static str> {
        match self {
            Self::Trigger | Self::Ping => None,
            Self::Claimed => Some("claimed"),
            Self::Started | Self::Progress => Some("processing"),
            Self::Completed => Some("completed"),
            Self::Failed => Some("failed"),
            Self::Canceled => Some("canceled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_event() {
        for event in Event::ALL {
            assert_eq!(Event::parse(event.name()), Some(event));
        }
        for (alias, event) in Event::ALIASES {
            assert_eq!(Event::parse(alias), Some(event), "{alias}");
        }
        assert_eq!(Event::parse("task.exploded"), None);
    }
}
