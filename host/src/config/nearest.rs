//! The known name that a user most likely meant.

/// The one name that is nearest to `name`, or all known ones where none is near.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known.iter().map(|each| (distance(name, each), *each)).min();
    match best {
        // Beyond half of its letters a name is another one, and a guess would only mislead.
        Some((distance, best)) if distance <= name.chars().count().div_ceil(2) => vec![best],
        _ => known,
    }
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (left, right, count) in
            [("", "", 0), ("", "ab", 2), ("grace", "grace", 0), ("gracee", "grace", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(left, right), distance(right, left)), (count, count), "{left} {right}");
        }
    }

    #[test]
    fn a_far_name_gets_the_whole_list() {
        assert_eq!(nearest("root_pth", ["endpoints", "root_path"]), ["root_path"]);
        assert_eq!(nearest("colour", ["endpoints", "root_path"]), ["endpoints", "root_path"]);
    }
}
