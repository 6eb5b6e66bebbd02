//! The calendar as an iCalendar feed, for any calendar program (RFC 5545).
//!
//! Calendar programs cannot send headers, so the feed has a token of its own in its address. It opens nothing else, and it
//! outlives the daemon.

use std::fmt::Write as _;

use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use jiff::{SignedDuration, Timestamp};
use rowcall_engine::store::{CalendarQuery, CalendarRow, CalendarState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use crate::api::{
    error::ApiError,
    rules::{Declares, Operator, Routes, Rule},
    sdk::webhook::calendar_uuid,
    state::Api,
};

/// How many entries the feed shows.
const MAX_SHOWN: u32 = 1_000;

/// How long an entry lasts in a calendar program.
const SHOWN_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Lines are folded after this many bytes.
const LINE_BYTES: usize = 75;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/calendar.ics", feed)
        .get("/rowcall/v1/calendar-feed", address)
}

/// A program with the feed's token, or an operator.
#[derive(Debug)]
pub(super) struct FeedReader;

impl Declares for FeedReader {
    const RULE: Rule = Rule::Feed;
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FeedToken {
    /// The feed's own token.
    token: Option<String>,
}

impl FromRequestParts<Api> for FeedReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let query = Query::<FeedToken>::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::invalid("The query cannot be read"))?;
        if query
            .0
            .token
            .as_deref()
            .is_some_and(|token| api.session().is_feed(token))
        {
            return Ok(Self);
        }
        Operator::from_request_parts(parts, api).await.map(|_| Self)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeedAddress {
    /// What to give to a calendar program. Whoever has it can read the calendar.
    url: String,
}

/// The feed's address.
#[utoipa::path(get, path = "/rowcall/v1/calendar-feed", tag = "calendar", security(("token" = [])),
    responses((status = 200, body = FeedAddress), (status = 401, body = Problem)))]
pub(super) async fn address(_: Operator, State(api): State<Api>) -> Json<FeedAddress> {
    Json(FeedAddress {
        url: format!(
            "{}/rowcall/v1/calendar.ics?token={}",
            api.addresses().api_url,
            api.session().feed()
        ),
    })
}

/// The calendar for calendar programs.
#[utoipa::path(get, path = "/rowcall/v1/calendar.ics", tag = "calendar", params(FeedToken), security((), ("token" = [])),
    responses((status = 200, description = "iCalendar", body = String, content_type = "text/calendar"), (status = 401, body = Problem)))]
pub(super) async fn feed(_: FeedReader, State(api): State<Api>) -> Result<Response, ApiError> {
    let query = CalendarQuery {
        limit: MAX_SHOWN,
        ..CalendarQuery::default()
    };
    let entries = api.store(move |store| store.calendar(&query)).await?;
    let mut response = render(&entries, api.now()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/calendar; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn render(entries: &[CalendarRow], now: Timestamp) -> String {
    let mut out = String::new();
    for line in [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//rowcall//calendar//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        "X-WR-CALNAME:rowcall",
        "REFRESH-INTERVAL;VALUE=DURATION:PT5M",
    ] {
        fold(line, &mut out);
    }
    for entry in entries {
        event(entry, now, &mut out);
    }
    fold("END:VCALENDAR", &mut out);
    out
}

fn event(entry: &CalendarRow, now: Timestamp, out: &mut String) {
    let start = entry.scheduled_for.unwrap_or(entry.seen_at);
    let end = start.checked_add(SHOWN_FOR).unwrap_or(start);
    let status = match entry.state {
        CalendarState::Waiting if entry.scheduled_for.is_none() => "TENTATIVE",
        CalendarState::Canceled | CalendarState::Skipped => "CANCELLED",
        _ => "CONFIRMED",
    };
    let mut about = format!(
        "{} of {}, task {}",
        entry.event, entry.source_table, entry.task_id
    );
    if let Some(error) = &entry.error {
        let _ = write!(about, "\n{error}");
    }
    let who = if entry.agent.is_empty() {
        "nobody yet"
    } else {
        &entry.agent
    };
    fold("BEGIN:VEVENT", out);
    fold(
        &format!("UID:{}@rowcall", calendar_uuid(&entry.task_id)),
        out,
    );
    fold(&format!("DTSTAMP:{}", stamp(now)), out);
    fold(&format!("LAST-MODIFIED:{}", stamp(entry.updated_at)), out);
    fold(&format!("DTSTART:{}", stamp(start)), out);
    fold(&format!("DTEND:{}", stamp(end)), out);
    fold(
        &format!(
            "SUMMARY:{}",
            escape(&format!("{who}: {}", entry.state.as_str()))
        ),
        out,
    );
    fold(&format!("DESCRIPTION:{}", escape(&about)), out);
    if !entry.app.is_empty() {
        fold(&format!("CATEGORIES:{}", escape(&entry.app)), out);
    }
    fold(&format!("STATUS:{status}"), out);
    fold("END:VEVENT", out);
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Text values: separators and line ends are escaped, other control characters dropped.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Writes one line, folded at characters.
fn fold(line: &str, out: &mut String) {
    let mut used = 0;
    for c in line.chars() {
        if used + c.len_utf8() > LINE_BYTES {
            out.push_str("\r\n ");
            used = 1;
        }
        out.push(c);
        used += c.len_utf8();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use rowcall_core::Trigger;

    use super::*;

    #[test]
    fn every_line_fits_and_text_is_escaped() {
        let entry = CalendarRow {
            id: 1,
            task_table: "public.rtx_activities".into(),
            task_id: "7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11".into(),
            source_table: "public.orders".into(),
            event: "INSERT".into(),
            app: "shop".into(),
            agent: "é;clerk".repeat(20),
            trigger: Trigger::Review,
            state: CalendarState::Waiting,
            attempt: None,
            error: Some("a,b\r\nEND:VCALENDAR".into()),
            seen_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            scheduled_for: None,
        };
        let text = render(&[entry], Timestamp::UNIX_EPOCH);
        assert!(text.lines().all(|line| line.len() <= LINE_BYTES), "{text}");
        assert_eq!(text.matches("\r\n").count(), text.matches('\n').count());
        assert_eq!(
            text.lines().filter(|line| *line == "END:VCALENDAR").count(),
            1
        );
        let unfolded = text.replace("\r\n ", "");
        assert!(unfolded.contains("DTSTART:19700101T000000Z") && unfolded.contains("a\\,b\\nEND"));
        assert!(unfolded.contains("STATUS:TENTATIVE"));
    }
}
