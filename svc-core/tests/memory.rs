//! The heap that an endpoint takes.

#[path = "../benches/memory.rs"]
#[allow(unreachable_pub)]
mod memory;

#[test]
fn an_endpoint_is_small() {
    let figures = memory::measure(100_000);
    assert!(figures.state <= 64.0, "{figures}");
    assert!(figures.planner_and_plan <= 150.0, "{figures}");
}
