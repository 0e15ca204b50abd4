//! Everything at once, for commands that look once.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde::Deserialize;
use svc_core::wire::Document;

use super::access;
use super::follow::client_words;
use super::retry::Retry;
use super::thread::runtime;
use super::{Access, Error, Missing, Subject};
use crate::manifest::Reading;

/// Objects in one page.
const PAGE: u32 = 500;
/// How often a list is started again because the server forgot its version on the way.
const RESTARTS: u32 = 3;
/// How often a page is asked for again, and the first and longest wait before it.
const RETRIES: u32 = 4;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Of a list, what the next request needs.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
struct HeadMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

pub(super) fn list(
    access: &Access,
    subjects: &[Subject],
    reading: &mut Reading,
    answer: Duration,
) -> Result<(), Error> {
    runtime()?.block_on(async {
        let client = access::client(access, answer).await?;
        let mut failures = 0;
        for subject in subjects {
            let message = match list_subject(&client, subject, reading).await {
                Ok(()) => continue,
                Err(Failed::Here(message)) => message,
                Err(Failed::Everywhere(message)) => return Err(Error::Server { message }),
            };
            failures += 1;
            if failures == subjects.len() {
                return Err(Error::Server { message });
            }
            let path = subject.resource.path();
            match subject.missing {
                Missing::Tolerated => eprintln!("note: {path}: {message}"),
                Missing::Fails => reading.problem(&path, message),
            }
        }
        Ok(())
    })
}

/// Why a resource cannot be listed, in words.
enum Failed {
    /// The server says so.
    Here(String),
    /// The server does not answer; it will not do so for the next resource either.
    Everywhere(String),
}

/// Reads all pages of the objects of a resource that are wanted.
async fn list_subject(
    client: &Client,
    subject: &Subject,
    reading: &mut Reading,
) -> Result<(), Failed> {
    let resource = subject.resource;
    let mut selectors = String::new();
    for (word, selector) in [
        ("labelSelector", subject.labels),
        ("fieldSelector", &subject.fields),
    ] {
        if !selector.is_empty() {
            selectors += &format!("&{word}={}", escaped(selector));
        }
    }
    let mut restarts = 0;
    'list: loop {
        let mut documents = Vec::new();
        let mut next = String::new();
        loop {
            let path = format!(
                "{}?limit={PAGE}&continue={next}{selectors}",
                resource.path()
            );
            let text = match page(client, &path).await {
                Ok(text) => text,
                Err(kube::Error::Api(status)) if status.code == 410 && restarts < RESTARTS => {
                    restarts += 1;
                    continue 'list;
                }
                Err(error @ kube::Error::Api(_)) => {
                    return Err(Failed::Here(client_words(&error)));
                }
                Err(error) => return Err(Failed::Everywhere(client_words(&error))),
            };
            let unreadable = |error: serde_json::Error| {
                Failed::Here(format!("the list cannot be read: {error}"))
            };
            let head: Head = serde_json::from_str(&text).map_err(unreadable)?;
            documents.push(serde_json::from_str::<Document>(&text).map_err(unreadable)?);
            next = escaped(&head.metadata.next);
            if next.is_empty() {
                break;
            }
        }
        for document in documents {
            reading.document(&resource.path(), document);
        }
        return Ok(());
    }
}

/// Asks for a page, and a few times more if the server says that it is overloaded: whoever looks once does not
/// come again by itself.
async fn page(client: &Client, path: &str) -> Result<String, kube::Error> {
    let mut retry = Retry::new(RETRY_FIRST, RETRY_MOST);
    let mut left = RETRIES;
    loop {
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        match client.request_text(request).await {
            Err(kube::Error::Api(status)) if left > 0 && matches!(status.code, 429 | 503 | 504) => {
                left -= 1;
                tokio::time::sleep(retry.wait()).await;
            }
            answer => return answer,
        }
    }
}

/// A value as it may stand in a query.
fn escaped(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    for byte in token.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;

    use super::*;
    use crate::api_server::{ApiServer, Fault, On, Store, Transport};

    #[test]
    fn a_list_that_is_never_answered_is_an_error() {
        for fault in [Fault::Unanswered, Fault::Silent] {
            let (store, asked) = Store::new();
            store.fail("services", On::List, fault);
            let server = ApiServer::start(&store, Transport::Plain).unwrap();
            let path = std::env::temp_dir().join(format!("list-{}", std::process::id()));
            std::fs::write(&path, server.kubeconfig()).unwrap();
            let access = Access {
                kubeconfig: Some(path.clone()),
            };
            let answer = Duration::from_millis(100);
            let subjects = &Subject::everything()[..2];
            let error = list(&access, subjects, &mut Reading::default(), answer).unwrap_err();
            std::fs::remove_file(path).unwrap();
            assert_eq!(error.to_string(), "the API server: no answer within 100ms");
            // The next resource would not be answered either.
            assert!(asked.try_recv().is_ok());
            assert_eq!(asked.try_recv(), Err(TryRecvError::Empty));
        }
    }
}
