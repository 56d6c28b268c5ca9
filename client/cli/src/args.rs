//! The command line as a whole: the options that every verb takes, and the list of verbs.

use crate::{about, audit, cert, crypt, custodian, key, operator, output::Format, reencrypt, role};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const ABOUT_LONG: &str = "\
claviger speaks to a Claviger cluster: a key store of three or five nodes that an organisation runs itself.

Who you are is said by your certificate, never by a password. Where the cluster is, and which files prove who you are, \
comes from options, else from the environment, else from the configuration file (by default \
~/.config/claviger/config.toml):

    addr = \"node1:7001,node2:7001,node3:7001\"
    ca = \"ca.crt\"          # paths are relative to the configuration file
    cert = \"me.crt\"
    key_file = \"me.key\"
    tenant = \"default\"     # of short key names: `invoices` means tenants/default/keys/invoices
    key = \"invoices\"       # for encrypt, decrypt and reencrypt
    output = \"table\"
    deadline_ms = 10000";

const AFTER: &str = "\
Exit codes:
  0  it was done
  1  it was not, and the error says what to do next
  2  the cluster is sealed, or was never founded

JSON output (--output json) keeps its form: names as in the .proto files, bytes as lowercase hexadecimal, times as \
RFC 3339 in UTC, enums as their last words (`open`, `enabled`, `key_user`).

Examples:
  claviger operator status
  claviger key create invoices
  claviger encrypt --key invoices letter.txt -o letter.clav
  claviger decrypt --key invoices letter.clav";

/// The command line of Claviger, a key store that an organisation runs itself.
#[derive(Parser)]
#[command(name = "claviger", version, long_about = ABOUT_LONG, after_help = AFTER, max_term_width = 110)]
#[command(arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Args, Default)]
#[command(next_help_heading = "Connection and output")]
pub struct Global {
    /// Nodes to ask, as host:port; with several, whichever answers.
    #[arg(long, global = true, env = "CLAVIGER_ADDR", hide_env_values = true, value_name = "HOST:PORT,...")]
    pub addr: Option<String>,
    /// Certificates of the authority for callers (PEM).
    #[arg(long = "tls-ca", global = true, env = "CLAVIGER_CA", hide_env_values = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Your certificate (PEM).
    #[arg(long = "tls-cert", global = true, env = "CLAVIGER_CERT", hide_env_values = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The file that holds your certificate's private key (PEM, mode 0600).
    #[arg(long = "tls-key", global = true, env = "CLAVIGER_KEY_FILE", hide_env_values = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How long one call may take, in milliseconds [default: 10000].
    #[arg(long, global = true, env = "CLAVIGER_DEADLINE_MS", hide_env_values = true, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// How to answer [default: table].
    #[arg(long, global = true, env = "CLAVIGER_OUTPUT", hide_env_values = true, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    /// The configuration file [default: ~/.config/claviger/config.toml].
    #[arg(long, global = true, env = "CLAVIGER_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What can be done.
#[derive(Subcommand)]
pub enum Verb {
    /// Make certificates for nodes and callers, and look at them.
    #[command(subcommand, arg_required_else_help = true, after_help = cert::EXAMPLES)]
    Cert(cert::Verb),
    /// Found, open, seal and watch a cluster.
    #[command(subcommand, arg_required_else_help = true, after_help = operator::EXAMPLES)]
    Operator(operator::Verb),
    /// Hold a share: make keys, check a share, offer it.
    #[command(subcommand, arg_required_else_help = true, after_help = custodian::EXAMPLES)]
    Custodian(custodian::Verb),
    /// Create, list, change, rotate, enable and disable keys.
    #[command(subcommand, arg_required_else_help = true, after_help = key::EXAMPLES)]
    Key(key::Verb),
    /// Encrypt a file, or what comes in, with a key of the cluster.
    #[command(after_help = crypt::ENCRYPT_EXAMPLES)]
    Encrypt(crypt::Encrypt),
    /// Decrypt what encrypt made.
    #[command(after_help = crypt::DECRYPT_EXAMPLES)]
    Decrypt(crypt::Decrypt),
    /// Encrypt anew, with a key's newest version or with another key, what encrypt made.
    #[command(name = "reencrypt", after_help = reencrypt::EXAMPLES)]
    ReEncrypt(reencrypt::ReEncrypt),
    /// Say who may do what; refuse certificates.
    #[command(subcommand, arg_required_else_help = true, after_help = role::EXAMPLES)]
    Role(role::Verb),
    /// Read a node's audit book, and verify books offline.
    #[command(subcommand, arg_required_else_help = true, after_help = audit::EXAMPLES)]
    Audit(audit::Verb),
    /// Print the release of this program.
    #[command(after_help = about::VERSION_EXAMPLES)]
    Version,
    /// Print completions for a shell.
    #[command(after_help = about::COMPLETIONS_EXAMPLES)]
    Completions(about::Completions),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, CommandFactory};

    fn each(command: &Command, path: &str, visit: &mut impl FnMut(&Command, &str)) {
        let path = format!("{path} {}", command.get_name());
        visit(command, path.trim());
        command.get_subcommands().filter(|c| c.get_name() != "help").for_each(|c| each(c, &path, visit));
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// The lines under "Examples:", continued ones joined.
    fn examples(command: &Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shown = help.split_once("Examples:\n").map(|(_, lines)| lines).unwrap_or_default();
        assert!(shown.lines().all(|line| line.len() < 100), "{shown}: a line would be wrapped");
        shown.replace("\\\n", " ").lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn the_help_of_every_verb_has_examples_that_parse() {
        let mut verbs = 0;
        each(&Cli::command(), "", &mut |command, path| {
            let lines = examples(command);
            assert!(lines.iter().any(|line| line.starts_with(path)), "`{path}` has no example of itself");
            for line in lines {
                for ours in line.split('|').filter(|part| part.trim().starts_with("claviger")) {
                    let words = ours.split(['<', '>', '#']).next().unwrap_or_default().split_whitespace();
                    let parsed = Cli::try_parse_from(words);
                    assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
                }
            }
            verbs += 1;
        });
        assert!(verbs > 30, "{verbs} verbs were seen");
    }

    /// Every value on the command line is of a kind that is no secret: arguments can be read by every process of a host.
    #[test]
    fn no_verb_takes_a_secret_as_an_argument() {
        const HARMLESS: &[&str] = &[
            "FILE",
            "DIR",
            "PREFIX",
            "URI",
            "NAME",
            "TEXT",
            "N",
            "MS",
            "DAYS",
            "HOST:PORT,...",
            "FORM",
            "KIND",
            "DOMAIN",
            "IP",
            "KEY",
            "KEY=USES",
            "NAME=VALUE",
            "KEY_HASH",
            "LINEAGE",
            "DIGEST",
            "SHARE_FILE",
            "SHELL",
            "REVISION",
            "PUBLIC_KEY",
            "TENANT",
            "ALGORITHM",
        ];
        each(&Cli::command(), "", &mut |command, path| {
            for argument in command.get_arguments().filter(|a| a.get_action().takes_values()) {
                let names = argument.get_value_names().unwrap_or_default();
                let known = !names.is_empty() && names.iter().all(|n| HARMLESS.contains(&n.as_str()));
                assert!(known, "`{path}`: {} takes {names:?}", argument.get_id());
                for word in ["secret", "password", "passphrase", "token", "pin", "seed"] {
                    assert!(!argument.get_id().as_str().contains(word), "`{path}`: {}", argument.get_id());
                }
            }
        });
    }

    #[test]
    fn refuses_lines_that_leave_out_what_matters() {
        for line in [
            "claviger key update invoices",
            "claviger key update invoices --no-labels --label a=b",
            "claviger audit verify book-1",
            "claviger audit verify --key 00 --cert node.crt book-1",
            "claviger audit verify --key 00",
            "claviger role deny",
            "claviger role deny 00 --file app.crt",
            "claviger role set spiffe://example.org/claviger/service/app",
            "claviger operator init --threshold 2",
            "claviger operator init --abandon --threshold 2",
            "claviger operator unseal --share alice.share",
            "claviger custodian offer alice.share",
            "claviger encrypt --context novalue",
            "claviger encrypt --context =x",
            "claviger reencrypt --in-place",
            "claviger reencrypt --in-place a.clav -o b.clav",
            "claviger reencrypt --no-context --new-context a=b x.clav",
            "claviger cert issue --ca pki --out me --uri a --name b",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
