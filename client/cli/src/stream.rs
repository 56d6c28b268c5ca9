//! Files and pipes of any size: read, passed through the cluster and written at the same time, with a bar for whoever
//! looks. A file is renamed into its place when it is whole; whatever ends it before that, it is gone, but for a kill that asks
//! nobody: then a file that begins with a dot and ends with `.part` stays, for its owner alone where it is plaintext.

use crate::crypt::Job;
use crate::failure::Failure;
use crate::files::{self, Part, Readers};
use crate::output::Report;
use claviger_client::{Client, StreamDone, StreamError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::io::Cursor;
use std::os::fd::AsFd;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Chain};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

const BAR: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const SPINNER: &str = "{spinner} {bytes} {bytes_per_sec}";

type Input = Box<dyn AsyncRead + Unpin>;

/// Where something comes from.
pub struct Source {
    /// For people.
    pub name: String,
    input: Input,
    /// How long it is, where that is known.
    bytes: Option<u64>,
}

impl Source {
    /// A file; without one, or with `-`, the standard input.
    pub fn open(file: Option<&Path>) -> Result<Source, Failure> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            let input = Box::new(unbuffered(std::io::stdin())?);
            return Ok(Source { name: "the standard input".into(), input, bytes: None });
        };
        let file = std::fs::File::open(path).map_err(|e| files::at(path, e))?;
        let known = file.metadata().map_err(|e| files::at(path, e))?;
        let bytes = known.is_file().then_some(known.len());
        let input = Box::new(tokio::fs::File::from_std(file));
        Ok(Source { name: path.display().to_string(), input, bytes })
    }

    /// So many bytes from its beginning, or all of it. The buffer never moves, so no copy is left behind.
    pub async fn head(&mut self, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut head = Zeroizing::new(vec![0; bytes_max]);
        let mut filled = 0;
        while filled < bytes_max {
            match self.input.read(&mut head[filled..]).await {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) => return Err(Failure::new(format!("{}: {e}", self.name))),
            }
        }
        head.truncate(filled);
        Ok(head)
    }

    /// The whole of it again, once its head was read.
    pub fn with(self, head: &[u8]) -> Whole<'_> {
        Whole { name: self.name, input: Cursor::new(head).chain(self.input), bytes: self.bytes }
    }
}

/// All of a source.
pub struct Whole<'a> {
    name: String,
    input: Chain<Cursor<&'a [u8]>, Input>,
    bytes: Option<u64>,
}

/// One stream from somewhere to somewhere.
pub struct Passage<'a> {
    /// The key's whole name.
    pub key: &'a str,
    /// What was asked for.
    pub job: &'a Job,
    /// No bar.
    pub quiet: bool,
    /// Who may read what is written.
    pub readers: Readers,
}

impl Passage<'_> {
    /// Encrypts.
    pub async fn encrypt(&self, client: &Client, from: Whole<'_>) -> Result<Report, Failure> {
        let (name, bar) = (from.name.clone(), self.bar(from.bytes));
        let input = bar.wrap_async_read(from.input);
        let pass = async |to: Output| client.encrypt_stream(self.key, &self.job.context, input, to).await;
        self.pass(&name, &bar, pass).await
    }

    /// Decrypts.
    pub async fn decrypt(&self, client: &Client, from: Whole<'_>) -> Result<Report, Failure> {
        let (name, bar) = (from.name.clone(), self.bar(from.bytes));
        let input = bar.wrap_async_read(from.input);
        let pass = async |to: Output| client.decrypt_stream(self.key, &self.job.context, input, to).await;
        self.pass(&name, &bar, pass).await
    }

    async fn pass(
        &self,
        name: &str,
        bar: &ProgressBar,
        pass: impl AsyncFnOnce(Output) -> Result<StreamDone, StreamError>,
    ) -> Result<Report, Failure> {
        let Some(path) = self.job.target() else {
            let passed = unless_interrupted(pass(Box::new(unbuffered(std::io::stdout())?))).await;
            bar.finish_and_clear();
            passed.map_err(|failure| named(name, failure, "what was written is not whole; throw it away"))?;
            return Ok(Report::silent());
        };
        let (file, part) = Part::create(path, self.readers)?;
        let out = file.try_clone().map_err(|e| files::at(path, e))?;
        let passed = unless_interrupted(pass(Box::new(tokio::fs::File::from_std(out)))).await;
        bar.finish_and_clear();
        passed.map_err(|failure| named(name, failure, "nothing was written; begin anew"))?;
        part.finish(&file)?;
        Ok(Report::silent())
    }

    /// Draws only where the errors go to a terminal.
    fn bar(&self, bytes: Option<u64>) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(bytes, target);
        let template = if bytes.is_some() { BAR } else { SPINNER };
        bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

type Output = Box<dyn AsyncWrite + Unpin>;

/// A standard stream without the standard library's buffer, which would keep a copy.
fn unbuffered(stream: impl AsFd) -> Result<tokio::fs::File, Failure> {
    Ok(tokio::fs::File::from_std(std::fs::File::from(stream.as_fd().try_clone_to_owned()?)))
}

/// A failure that names the input, and says what is to be thought of the output.
fn named(name: &str, failure: Failure, next: &str) -> Failure {
    let next = failure.next.map_or(next.to_owned(), |also| format!("{also}; {next}"));
    Failure { message: format!("{name}: {}", failure.message), next: Some(next), exit: failure.exit }
}

/// Ends when the terminal or a supervisor wants that, so that what was begun is cleared away.
async fn unless_interrupted(
    passing: impl Future<Output = Result<StreamDone, StreamError>>,
) -> Result<StreamDone, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err(Failure::new("interrupted")),
        _ = terminate.recv() => Err(Failure::new("terminated")),
        _ = hangup.recv() => Err(Failure::new("the terminal was closed")),
        passed = passing => Ok(passed?),
    }
}
