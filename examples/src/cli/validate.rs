//! `svcctl validate`: what an API server would say about Services.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};
use svc_core::validate::{self, FieldError, service_warnings};
use svc_core::{Diagnostic, DiagnosticReason, NamespacedName, ObjectKind, wire};

use super::Output;
use super::input::level;
use super::objects::{ManifestArgs, worse};
use crate::manifest::Manifests;

/// Checks Services as an API server does when they are made
///
/// Prints every error and warning of each. Exit code 1 if there is any error.
#[derive(Clone, Debug, clap::Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What was found out about one Service.
struct Finding<'a> {
    service: &'a NamespacedName,
    errors: Vec<FieldError>,
    warnings: Vec<FieldError>,
}

/// Runs the command.
pub fn run(args: &ValidateArgs) -> ExitCode {
    let (manifests, code) = args.manifests.read();
    let mut lost = false;
    for (file, diagnostic) in &manifests.diagnostics {
        if !checked_here(&manifests, diagnostic) {
            eprintln!("{}: {file}: {diagnostic}", level(diagnostic));
            lost |= diagnostic.severity == svc_core::Severity::Error;
        }
    }
    let services = manifests.wire_services.iter();
    let findings: Vec<Finding<'_>> = services
        .filter(|(name, _)| args.manifests.wants(&name.namespace))
        .map(|(name, service)| check(name, service))
        .collect();
    match args.output {
        Output::Text => print!("{}", findings.iter().map(to_text).collect::<String>()),
        Output::Json => {
            let list: Vec<Value> = findings.iter().map(to_json).collect();
            println!("{:#}", json!({ "services": list }));
        }
    }
    let wrong = findings.iter().any(|finding| !finding.errors.is_empty());
    worse(code, wrong || lost)
}

/// Whether the check below says all that reading had to say: it reads the same fields, but cannot
/// see an object without a name or one that stands twice.
fn checked_here(manifests: &Manifests, diagnostic: &Diagnostic) -> bool {
    let twice =
        diagnostic.reason == DiagnosticReason::Duplicate && diagnostic.field == "metadata.name";
    diagnostic.kind == ObjectKind::Service
        && manifests.wire_services.contains_key(&diagnostic.object)
        && !twice
}

fn check<'a>(name: &'a NamespacedName, service: &wire::Service) -> Finding<'a> {
    let mut service = service.clone();
    let (errors, warnings) = match validate::create(&mut service) {
        Ok(warnings) => (Vec::new(), warnings),
        // A server is silent about warnings then, but they will come with the next attempt.
        Err(errors) => (errors, service_warnings(&service)),
    };
    Finding {
        service: name,
        errors,
        warnings,
    }
}

fn to_text(finding: &Finding<'_>) -> String {
    let count = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    };
    let errors = finding.errors.len();
    let told = match (errors, finding.warnings.len()) {
        (0, 0) => "valid".to_owned(),
        (0, warnings) => format!("valid, {}", count(warnings, "warning")),
        (_, 0) => count(errors, "error"),
        (_, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    let mut text = format!("{}: {told}\n", finding.service);
    for error in &finding.errors {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  error: {}", one_line(&error.to_string()));
    }
    for warning in &finding.warnings {
        let line = format!("{}: {}", warning.field, words(warning));
        let _ = writeln!(text, "  warning: {}", one_line(&line));
    }
    text
}

fn words(warning: &FieldError) -> String {
    match &warning.value {
        Some(value) if warning.detail.is_empty() => value.clone(),
        Some(value) => format!("{value}: {}", warning.detail),
        None => warning.detail.clone(),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn to_json(finding: &Finding<'_>) -> Value {
    json!({
        "service": finding.service,
        "valid": finding.errors.is_empty(),
        "errors": finding.errors,
        "warnings": finding.warnings,
    })
}
