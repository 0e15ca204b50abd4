//! Tables as Kubernetes tools print them.

/// Spaces between two columns.
const GAP: usize = 3;

/// A table with a head; columns are as wide as their widest cell, the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<0$}", width + GAP))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A list in one cell, `<none>` when it is empty.
pub fn joined<T: ToString>(list: impl IntoIterator<Item = T>, separator: &str) -> String {
    let list: Vec<String> = list.into_iter().map(|item| item.to_string()).collect();
    match list.is_empty() {
        true => "<none>".into(),
        false => list.join(separator),
    }
}
