//! The flow cases.

use std::fs;
use std::path::Path;
use std::time::Instant;

use examples::flow_cases;
use examples::packets::{CaseResult, run_cases};

use crate::lab::UnderTest;

pub(crate) fn every_case(under_test: &UnderTest) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&fs::read(path).unwrap()).unwrap();
    let start = Instant::now();
    let report = &mut |case: &flow_cases::FlowCase, result: &CaseResult| {
        if let CaseResult::Failed(why) = result {
            println!("{} {} ({}): {why}", case.id, case.title, case.flow);
        }
    };
    let tally = run_cases(&cases, under_test.mode, under_test.open, report).unwrap();
    println!("{tally} in {:.1?}", start.elapsed());
    assert_eq!(tally.failed, 0);
    assert!(tally.passed > 150, "{tally}");
}
