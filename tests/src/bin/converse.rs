//! `converse URL CREDS SUBJECT`: connects as somebody else's client does, with async-nats and a creds file, publishes to
//! itself, and says what came back. For tests of the page.

use futures::StreamExt as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, creds, subject] = words.as_slice() else {
        let _ = writeln!(std::io::stderr(), "usage: converse URL CREDS SUBJECT");
        return ExitCode::from(2);
    };
    match converse(url, creds, subject).await {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn converse(url: &str, creds: &str, subject: &str) -> Result<String, String> {
    let shown = |error: &dyn std::fmt::Display| error.to_string();
    let options = async_nats::ConnectOptions::with_credentials_file(creds).await.map_err(|e| shown(&e))?;
    let client = options.connect(url).await.map_err(|e| shown(&e))?;
    let mut heard = client.subscribe(subject.to_owned()).await.map_err(|e| shown(&e))?;
    client.publish(subject.to_owned(), "hello".into()).await.map_err(|e| shown(&e))?;
    let message = tokio::time::timeout(Duration::from_secs(5), heard.next()).await;
    let message = message.map_err(|_| "nothing came back".to_owned())?.ok_or("the subscription ended")?;
    String::from_utf8(message.payload.to_vec()).map_err(|e| shown(&e))
}
