//! What goes wrong.

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum On {
    List,
    Watch,
}

/// What happens to a request instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A status of HTTP with an error of the API.
    Status(u16),
    /// Watch: an event of type ERROR, then the end of the stream.
    Error(u16),
    /// A body that breaks off after so many bytes, with its connection.
    Cut(usize),
    /// Watch: an answer that ends at once, without an event.
    Empty,
    /// The head of an answer, and never a body.
    Silent,
    /// Not even the head of an answer, on a connection that stays.
    Unanswered,
    /// The right answer, a few bytes at a time.
    Slow,
}

/// How running watches of a resource end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As when the time of the watch is over.
    Clean,
    /// In the middle of an event, with the connection.
    Cut,
    /// With an event of type ERROR.
    Error(u16),
    /// Not at all: a line that is no JSON.
    Garbage,
}

/// The reason that the API gives for a code.
pub(super) fn reason(code: u16) -> &'static str {
    match code {
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "Unknown",
    }
}

/// The object by which the API reports an error.
pub(super) fn status(code: u16) -> String {
    let reason = reason(code);
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"made by the test","reason":"{reason}","code":{code}}}"#
    )
}
