//! The heap that an endpoint takes, and a Service in the DNS zone.

#[path = "../benches/memory.rs"]
#[allow(unreachable_pub)]
mod memory;

#[test]
fn objects_and_names_are_small() {
    // One test: figures are of the heap of the whole process.
    let figures = memory::measure(100_000);
    assert!(figures.state <= 64.0, "{figures}");
    assert!(figures.planner_and_plan <= 150.0, "{figures}");
    let figures = memory::measure_zone(10_000);
    assert!(figures.cluster_ip <= 1500.0, "{figures}");
    assert!(figures.headless <= 500.0, "{figures}");
    println!("{figures}");
}
