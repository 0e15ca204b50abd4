//! The plot: how costs grow with the number of Services, on logarithmic scales.

use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;

use crate::measured::{Measured, Place};
use crate::peer;

/// One diagram.
struct Panel {
    title: &'static str,
    /// Unit of the vertical axis.
    unit: &'static str,
    place: Place,
    /// From what a source prints to that unit.
    factor: f64,
    range: (f64, f64),
    curves: &'static [Curve],
    peers: &'static [Peer],
}

/// A mode of kube-proxy: name, color, what was measured.
type Peer = (&'static str, RGBColor, peer::Points);

/// Sources of one backend, with their numbers of Services.
struct Curve {
    name: &'static str,
    color: RGBColor,
    sources: &'static [(f64, &'static str)],
}

const NFTABLES: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const LEGACY: RGBColor = RGBColor(0x2e, 0x8b, 0x57);
const NFT: RGBColor = RGBColor(0x8a, 0x5c, 0xb8);
const IPVS: RGBColor = RGBColor(0xb8, 0x86, 0x0b);

const SYNCS: &[Curve] = &[
    Curve {
        name: "nftables",
        color: NFTABLES,
        sources: &[
            (1e2, "nftables-100"),
            (1e3, "nftables-1k"),
            (1e4, "nftables-10k"),
            (1e5, "nftables-100k"),
        ],
    },
    Curve {
        name: "iptables-legacy",
        color: LEGACY,
        sources: &[
            (1e2, "legacy-100"),
            (1e3, "legacy-1k"),
            (1e4, "legacy-10k"),
            (3e4, "legacy-30k"),
        ],
    },
    Curve {
        name: "iptables-nft",
        color: NFT,
        sources: &[
            (1e2, "nft-100"),
            (1e3, "nft-1k"),
            (1e4, "nft-10k"),
            (3e4, "nft-30k"),
        ],
    },
    Curve {
        name: "IPVS, emulated processor",
        color: IPVS,
        sources: &[(1e2, "ipvs-100"), (1e3, "ipvs-1k")],
    },
];

const PANELS: &[Panel] = &[
    Panel {
        title: "First full sync, 3 endpoints a Service",
        unit: "seconds of CPU",
        place: Place::Json("/full_sync_cpu_ms"),
        factor: 1e-3,
        range: (1e-3, 1e3),
        curves: SYNCS,
        peers: &[
            ("nftables", NFTABLES, peer::NFTABLES_FULL),
            ("iptables-legacy", LEGACY, peer::LEGACY_FULL),
            ("iptables-nft", NFT, peer::NFT_FULL),
        ],
    },
    Panel {
        title: "One endpoint changed",
        unit: "seconds of CPU",
        place: Place::Json("/endpoint_change_cpu_us"),
        factor: 1e-6,
        range: (1e-5, 1e2),
        curves: SYNCS,
        peers: &[
            ("nftables", NFTABLES, peer::NFTABLES_ENDPOINT),
            ("iptables-legacy", LEGACY, peer::LEGACY_ENDPOINT),
            ("iptables-nft", NFT, peer::NFT_ENDPOINT),
        ],
    },
    Panel {
        title: "First packet, through the last Service",
        unit: "TCP connect, as a multiple of no rules",
        place: Place::Json("/connect_us/last_service/ratio"),
        factor: 1.0,
        range: (1.0, 30.0),
        curves: &[
            Curve {
                name: "nftables",
                color: NFTABLES,
                sources: &[
                    (1e2, "connect-nftables-100"),
                    (1e3, "connect-nftables-1k"),
                    (1e4, "connect-nftables-10k"),
                    (1e5, "connect-nftables-100k"),
                ],
            },
            Curve {
                name: "iptables-legacy",
                color: LEGACY,
                sources: &[(1e3, "connect-legacy-1k"), (1e4, "connect-legacy-10k")],
            },
            Curve {
                name: "iptables-nft",
                color: NFT,
                sources: &[(1e3, "connect-nft-1k"), (1e4, "connect-nft-10k")],
            },
        ],
        peers: &[
            ("nftables", NFTABLES, peer::NFTABLES_CONNECT),
            ("iptables-legacy", LEGACY, peer::LEGACY_CONNECT),
            ("iptables-nft", NFT, peer::NFT_CONNECT),
        ],
    },
];

const WIDTH: u32 = 760;
const HEIGHT: u32 = 430;

pub(crate) fn svg(measured: &Measured) -> String {
    let mut text = String::new();
    let size = (WIDTH, HEIGHT * 3);
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).unwrap();
        for (part, panel) in area.split_evenly((PANELS.len(), 1)).iter().zip(PANELS) {
            draw(part, panel, measured);
        }
        area.present().unwrap();
    }
    text
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel, measured: &Measured) {
    let (least, most) = panel.range;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(62)
        .build_cartesian_2d((80.0..130_000.0).log_scale(), (least..most).log_scale())
        .unwrap();
    chart
        .configure_mesh()
        .x_desc("Services")
        .y_desc(panel.unit)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y}"))
        .max_light_lines(4)
        .light_line_style(RGBColor(0xee, 0xee, 0xee))
        .draw()
        .unwrap();
    for curve in panel.curves {
        draw_curve(&mut chart, curve, panel, measured);
    }
    for peer in panel.peers {
        draw_peer(&mut chart, peer);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .label_font(("sans-serif", 12))
        .draw()
        .unwrap();
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// A line through what was measured of a backend.
fn draw_curve(chart: &mut Chart<'_, '_>, curve: &Curve, panel: &Panel, measured: &Measured) {
    let color = curve.color;
    let figures = curve.sources.iter().filter_map(|(services, source)| {
        let figure = measured.figure(source, panel.place)?;
        Some((*services, figure.median * panel.factor))
    });
    let points: Vec<(f64, f64)> = figures.collect();
    let dots = points.iter().map(|at| Circle::new(*at, 4, color.filled()));
    chart.draw_series(dots).unwrap();
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(2)))
        .unwrap()
        .label(curve.name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
}

/// Crosses where kube-proxy was measured.
fn draw_peer(chart: &mut Chart<'_, '_>, (name, color, points): &'static Peer) {
    let crosses = points
        .iter()
        .map(|at| Cross::new(*at, 5, color.stroke_width(2)));
    chart
        .draw_series(crosses)
        .unwrap()
        .label(format!("kube-proxy, {name}"))
        .legend(move |(x, y)| Cross::new((x + 11, y), 5, color.stroke_width(2)));
}
