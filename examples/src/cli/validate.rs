//! `svcctl validate`: what an API server would say about Services.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};
use svc_core::validate::{self, FieldError, service_warnings};
use svc_core::{Diagnostic, NamespacedName, ObjectKind, wire};

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
    let services = manifests.wire_services.iter();
    let findings: Vec<Finding<'_>> = services
        .filter(|(name, _)| args.manifests.wants(&name.namespace))
        .map(|(name, service)| check(name, service))
        .collect();
    let lost = report(args, &manifests, &findings);
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

/// Prints what reading had to say and no finding says; whether an API server would refuse any of it.
fn report(args: &ValidateArgs, manifests: &Manifests, findings: &[Finding<'_>]) -> bool {
    let mut lost = false;
    for (file, diagnostic) in &manifests.diagnostics {
        let checked = diagnostic.kind == ObjectKind::Service
            && manifests.wire_services.contains_key(&diagnostic.object);
        if checked && (!wanted(args, diagnostic) || is_found(findings, diagnostic)) {
            continue;
        }
        if checked && is_taken(&diagnostic.field) {
            eprintln!("warning: {file}: {diagnostic}");
            continue;
        }
        eprintln!("{}: {file}: {diagnostic}", level(diagnostic));
        lost |= diagnostic.severity == svc_core::Severity::Error;
    }
    lost
}

fn wanted(args: &ValidateArgs, diagnostic: &Diagnostic) -> bool {
    args.manifests.wants(&diagnostic.object.namespace)
}

/// Whether an error of the check is about the same field, or about a part of it.
fn is_found(findings: &[Finding<'_>], diagnostic: &Diagnostic) -> bool {
    let wanted = |field: &str| {
        // A single address is checked as the first of the list (B-368).
        let list = (diagnostic.field == "spec.clusterIP").then_some("spec.clusterIPs");
        [Some(&*diagnostic.field), list]
            .into_iter()
            .flatten()
            .filter_map(|path| field.strip_prefix(path))
            .any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let finding = findings.binary_search_by(|finding| finding.service.cmp(&diagnostic.object));
    let finding = finding.ok().and_then(|place| findings.get(place));
    finding.is_some_and(|finding| finding.errors.iter().any(|error| wanted(&error.field)))
}

/// Whether an API server takes any text in a field: it sets the status itself, and does not look at
/// the wish for an address.
fn is_taken(field: &str) -> bool {
    field.starts_with("status.") || field == "spec.loadBalancerIP"
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
