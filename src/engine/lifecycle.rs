//! The life of an incident: one total function from a state and what happened to the next state and what is to be done (DESIGN §7).

use crate::model::incident::State;

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guards' verdicts.
    Allowed,
    Held,
    Asked,
    Denied,
    /// It was held longer than `hold_at_most`, or waited for approval too long.
    WaitedTooLong,
    /// The run ended well; does anything of the incident still fire?
    RunDone {
        firing: bool,
    },
    /// The run failed or was interrupted, or verification did not come; is there another attempt?
    NotHelped {
        retry: bool,
    },
    /// The runbook handed over, a guard denied one of its steps, or something happened that only a person can mend.
    HandedOver,
    /// Nothing of it fires any more.
    Resolved,
    /// What the rule or the runbook expects has become true while the alert still fires.
    Recovered,
    /// It fires again within the flap window; too often?
    Refired {
        too_often: bool,
    },
    /// It fires since before its last run had its effect: that has its time to show first.
    Decaying,
    /// A person acknowledged it.
    Acknowledged,
    /// A person closed it, or a rule of a newer catalog took its alerts over.
    Closed,
}

/// What is to be done when a state is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// Start a run.
    Start,
    /// Ask the guards (again) when the time or the condition comes.
    Wait,
    /// Wait for the alert to go away, or for what is expected, until the rule's deadline.
    Verify,
    /// Ask the guards now.
    Consider,
    /// Tell a person, who must act.
    Escalate,
    /// Close it: give back what was taken, tell the thread, start the flap window.
    Close,
}

/// The next state and what to do, or `None` when the table does not have this event in this state: it is ignored, and the state stays.
pub fn next(state: State, event: Event) -> Option<(State, Act)> {
    use Act::*;
    use Event as E;
    use State as S;
    Some(match (state, event) {
        (S::Open | S::Held, E::Allowed) | (S::AwaitingApproval, E::Allowed) => (S::Running, Start),
        // A person has a runbook run for an incident that was handed over.
        (S::Escalated, E::Allowed) => (S::Running, Start),
        // It is approved, and another guard does not allow it just now.
        (S::Open | S::Held | S::AwaitingApproval, E::Held) => (S::Held, Wait),
        (S::Open | S::Held, E::Asked) => (S::AwaitingApproval, Wait),
        (S::Open | S::Held | S::AwaitingApproval, E::Denied | E::WaitedTooLong | E::HandedOver) => {
            (S::Escalated, Escalate)
        }

        (S::Running, E::RunDone { firing: true }) => (S::Verifying, Verify),
        (S::Running, E::RunDone { firing: false }) => (S::Resolved, Close),
        (S::Running | S::Verifying, E::NotHelped { retry: true }) => (S::Held, Wait),
        (S::Running | S::Verifying | S::Recovered, E::NotHelped { retry: false } | E::HandedOver) => {
            (S::Escalated, Escalate)
        }
        // A run goes on to its end whatever the alert does: a drain must reach its activate.
        (S::Running, E::Resolved | E::Refired { .. }) => (S::Running, Nothing),

        (S::Open | S::Held | S::AwaitingApproval | S::Verifying | S::Recovered | S::Escalated, E::Resolved) => {
            (S::Resolved, Close)
        }
        (S::Verifying, E::Recovered) => (S::Recovered, Nothing),
        (S::Recovered, E::Refired { .. }) => (S::Recovered, Nothing),
        (S::Recovered, E::WaitedTooLong) => (S::Escalated, Escalate),

        (S::Resolved, E::Refired { too_often: false }) => (S::Open, Consider),
        (S::Resolved, E::Decaying) => (S::Verifying, Verify),
        (S::Resolved, E::Refired { too_often: true }) => (S::Escalated, Escalate),
        // `on_resolved` failed: what was taken is not given back.
        (S::Resolved, E::HandedOver) => (S::Escalated, Escalate),

        (S::Escalated, E::Acknowledged) => (S::Escalated, Nothing),
        (S::Held | S::AwaitingApproval | S::Verifying | S::Recovered, E::Acknowledged) => (state, Nothing),
        (S::Open | S::Held | S::AwaitingApproval | S::Verifying | S::Recovered | S::Escalated, E::Closed) => {
            (S::Resolved, Close)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [Event; 17] = [
        Event::Allowed,
        Event::Held,
        Event::Asked,
        Event::Denied,
        Event::WaitedTooLong,
        Event::RunDone { firing: true },
        Event::RunDone { firing: false },
        Event::NotHelped { retry: true },
        Event::NotHelped { retry: false },
        Event::HandedOver,
        Event::Resolved,
        Event::Recovered,
        Event::Refired { too_often: false },
        Event::Refired { too_often: true },
        Event::Acknowledged,
        Event::Closed,
        Event::Decaying,
    ];

    #[test]
    fn the_table_reads_as_designed() {
        use Event as E;
        use State::*;
        let cases = [
            (Open, E::Allowed, Some(Running)),
            (Open, E::Held, Some(Held)),
            (Open, E::Denied, Some(Escalated)),
            (Held, E::Allowed, Some(Running)),
            (Held, E::Resolved, Some(Resolved)),
            (Held, E::WaitedTooLong, Some(Escalated)),
            (Running, E::Resolved, Some(Running)),
            (Running, E::RunDone { firing: true }, Some(Verifying)),
            (Running, E::RunDone { firing: false }, Some(Resolved)),
            (Running, E::NotHelped { retry: true }, Some(Held)),
            (Running, E::NotHelped { retry: false }, Some(Escalated)),
            (Running, E::Allowed, None),
            (Running, E::Closed, None),
            (Verifying, E::Resolved, Some(Resolved)),
            (Verifying, E::NotHelped { retry: false }, Some(Escalated)),
            (Verifying, E::Recovered, Some(Recovered)),
            (Recovered, E::WaitedTooLong, Some(Escalated)),
            (Escalated, E::Acknowledged, Some(Escalated)),
            (Escalated, E::Resolved, Some(Resolved)),
            (Escalated, E::Closed, Some(Resolved)),
            (Resolved, E::Refired { too_often: false }, Some(Open)),
            (Resolved, E::Refired { too_often: true }, Some(Escalated)),
            (Resolved, E::Decaying, Some(Verifying)),
            (Running, E::Decaying, None),
            (Escalated, E::Decaying, None),
            (Resolved, E::Allowed, None),
            (Resolved, E::RunDone { firing: true }, None),
        ];
        for (state, event, expect) in cases {
            assert_eq!(next(state, event).map(|(state, _)| state), expect, "{state} on {event:?}");
        }
    }

    #[test]
    fn only_a_start_enters_running_and_only_a_close_enters_resolved() {
        for state in State::ALL {
            for event in EVENTS {
                let Some((to, act)) = next(state, event) else { continue };
                if to != state {
                    assert_eq!(to == State::Running, act == Act::Start, "{state} on {event:?}");
                    assert_eq!(to == State::Resolved, act == Act::Close, "{state} on {event:?}");
                    assert_eq!(to == State::Escalated, act == Act::Escalate, "{state} on {event:?}");
                }
            }
        }
    }

    /// How near the end a state is, for what nobody asked for: a person, then the end. Only what fires anew, a person, or another attempt leads back.
    fn rank(state: State) -> u8 {
        match state {
            State::Open => 0,
            State::Held | State::AwaitingApproval => 1,
            State::Running => 2,
            State::Verifying => 3,
            State::Recovered => 4,
            State::Escalated => 5,
            State::Resolved => 6,
        }
    }

    /// What may lead back: another attempt, a refire, a person, and a hand-over of what had resolved (nothing was given back).
    fn may_lead_back(from: State, event: Event) -> bool {
        matches!(
            (from, event),
            (_, Event::NotHelped { retry: true } | Event::Refired { .. } | Event::Decaying)
                | (State::Escalated, Event::Allowed)
                | (State::Resolved, Event::HandedOver)
        )
    }

    #[test]
    fn nothing_but_another_attempt_a_refire_or_a_person_leads_back() {
        for from in State::ALL {
            for event in EVENTS {
                let Some((to, _)) = next(from, event) else { continue };
                let forward = rank(to) >= rank(from);
                assert!(forward || may_lead_back(from, event), "{from} goes back to {to} on {event:?}");
            }
        }
    }

    proptest! {
        /// Whatever happens in whatever order: an incident that is left alone ends resolved or with a person, and never starts a run that nobody allowed.
        #[test]
        fn any_course_ends_when_it_is_left_alone(events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..60)) {
            let mut state = State::Open;
            let mut live = false;
            for event in events {
                let Some((to, act)) = next(state, event) else { continue };
                // No event starts a second run beside the first.
                prop_assert!(!(live && act == Act::Start), "{state} on {event:?}");
                prop_assert_eq!(act == Act::Start, to == State::Running && state != State::Running);
                live = to == State::Running;
                state = to;
            }
            // Time alone brings these: the run ends, its time to verify runs out, a hold is too long.
            for event in [Event::RunDone { firing: true }, Event::NotHelped { retry: false }, Event::WaitedTooLong] {
                state = next(state, event).map_or(state, |(to, _)| to);
            }
            prop_assert!(matches!(state, State::Escalated | State::Resolved), "it ends {state}");
            // And what resolves then is over.
            state = next(state, Event::Resolved).map_or(state, |(to, _)| to);
            prop_assert_eq!(state, State::Resolved);
        }
    }

    #[test]
    fn every_unfinished_state_can_reach_a_person_and_its_end() {
        for state in State::ALL.into_iter().filter(|state| *state != State::Resolved) {
            let reach = |to: State| EVENTS.iter().any(|event| next(state, *event).is_some_and(|(s, _)| s == to));
            assert!(reach(State::Resolved), "{state} never resolves");
            assert!(reach(State::Escalated), "{state} never reaches a person");
        }
    }
}
