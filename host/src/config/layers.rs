//! The layers: what the user gave, in the file and in the environment, laid over the defaults key by key.
//!
//! Not responsible for what keys mean (each section knows its own) nor for what a variable's name and text mean
//! ([`super::variable`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Place, Places, Problem};
use super::section::Section;
use super::variable::{self, PREFIX, Variable, meanings, resolve, scalar, variable_of};

/// Keys whose values are never shown, in whatever section.
const SECRETS: &[&str] = &["password"];

/// The file and the variables, not yet understood.
pub(super) struct Layers {
    file: PathBuf,
    table: toml::Table,
    lines: BTreeMap<Vec<String>, usize>,
    variables: Vec<Variable>,
}

/// One key that the user gave, with what its value may mean, the likeliest first.
struct Given {
    path: Vec<String>,
    meanings: Vec<Value>,
    place: Place,
}

/// One value at its place, as a layer for figment.
struct At<'a>(&'a [String], &'a Value);

impl Layers {
    /// Reads the text and picks our variables out of the environment.
    pub(super) fn new(
        file: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Mistake>> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let syntax = |error: &toml::de::Error| Mistake {
            place: Place::File { path: file.to_owned(), line: error.span().map(|span| line_of(span.start)) },
            key: String::new(),
            problem: Problem::Syntax(error.message().to_owned()),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(syntax).collect());
        }
        let mut lines = BTreeMap::new();
        collect_lines(&mut Vec::new(), table.get_ref(), &line_of, &mut lines);
        let table =
            toml::Table::deserialize(toml::de::Deserializer::from(table)).map_err(|error| vec![syntax(&error)])?;
        Ok(Self { file: file.to_owned(), table, lines, variables: variable::ours(variables) })
    }

    /// Sections, in the file and in variables' names, that nobody knows.
    pub(super) fn unknown_sections(&self, known: &[&'static str]) -> Vec<Mistake> {
        let all = || known.iter().copied().chain(["component"]);
        let in_file = self.table.keys().filter(|name| !all().any(|each| each == *name)).map(|name| Mistake {
            place: self.in_file(std::slice::from_ref(name)),
            key: name.clone(),
            problem: Problem::unknown(name, all(), |section| format!("[{section}]")),
        });
        let in_environment = self.variables.iter().filter_map(|variable| {
            let (section, key) = variable.rest.split_once('_').unwrap_or((&variable.rest, ""));
            let complete = if section == "component" { key.contains('_') } else { !key.is_empty() };
            let known = complete && all().any(|each| each == section);
            (!known).then(|| Mistake {
                place: Place::Variable(variable.name.clone()),
                key: String::new(),
                problem: Problem::unknown(section, all(), |section| match section {
                    _ if complete => variable_of(&format!("{section}.{key}")),
                    "component" => format!("{PREFIX}COMPONENT_<ROLE>_<KEY>"),
                    _ => format!("{}_<KEY>", variable_of(section)),
                }),
            })
        });
        in_file.chain(in_environment).collect()
    }

    /// The section of that name (`etcd`, `component.rootcoord`): its defaults, with all given keys that can be used. What
    /// cannot is added to `mistakes`.
    pub(super) fn read<T: Section>(&self, section: &str, mistakes: &mut Vec<Mistake>) -> T {
        let defaults = Value::serialize(T::default()).expect("every configuration can be written");
        let defaults = defaults.into_dict().expect("every section is a table");
        let mut figment = Figment::from(Serialized::defaults(&defaults));
        let mut places = BTreeMap::new();
        for given in self.given(section, &defaults, mistakes) {
            match given.choose::<T>(section, &defaults) {
                Ok(value) => {
                    figment = figment.merge(At(&given.path, value));
                    places.insert(given.path.join("."), given.place);
                }
                Err(problem) => {
                    mistakes.push(Mistake { key: dotted(section, &given.path), place: given.place, problem });
                }
            }
        }
        let value: T = match figment.extract() {
            Ok(value) => value,
            Err(error) => {
                let place = self.in_file(&split(section));
                mistakes.push(Mistake { place, key: section.to_owned(), problem: Problem::Value(error.to_string()) });
                return T::default();
            }
        };
        mistakes.extend(value.mistakes().into_iter().map(|(key, text)| Mistake {
            place: places.get(key).cloned().unwrap_or_else(|| self.in_file(&split(section))),
            key: format!("{section}.{key}"),
            problem: Problem::Value(text),
        }));
        value
    }

    /// Where a key got its value: the variable, the line in the file, or the file for a default.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let variable = self.variables.iter().find(|variable| variable.rest == key.replace('.', "_"));
        variable.map_or_else(|| self.in_file(&split(key)), |variable| Place::Variable(variable.name.clone()))
    }

    /// The places of all keys of a top-level table, the variables' among them.
    pub(super) fn places(&self, table: &str) -> Places {
        let below = |path: &&Vec<String>| path.first().is_some_and(|first| first == table);
        let in_file = self.lines.keys().filter(below).map(|path| (path.clone(), self.in_file(path)));
        let in_environment = self.variables.iter().filter_map(|variable| {
            let (role, key) = variable.rest.strip_prefix("component_")?.split_once("_config_")?;
            let path = ["component", role, "config", key].map(str::to_owned).to_vec();
            Some((path, Place::Variable(variable.name.clone())))
        });
        // The environment's go before the file's, as their values do.
        let whole = (vec![table.to_owned()], self.in_file(&[table.to_owned()]));
        Places(std::iter::once(whole).chain(in_file).chain(in_environment).collect())
    }

    /// The names below `[component]`, in the file and in variables' names.
    pub(super) fn components(&self) -> BTreeSet<String> {
        let in_file = self.table.get("component").and_then(toml::Value::as_table);
        let in_file = in_file.into_iter().flat_map(toml::Table::keys).cloned();
        let in_environment = self.variables.iter().filter_map(|variable| {
            let (role, key) = variable.rest.strip_prefix("component_")?.split_once('_')?;
            (!key.is_empty()).then(|| role.to_owned())
        });
        in_file.chain(in_environment).collect()
    }

    /// The author's own table of a component, which is not understood here; variables lie over the file.
    pub(super) fn author_table(&self, role: &str, mistakes: &mut Vec<Mistake>) -> toml::Table {
        let path = ["component".to_owned(), role.to_owned(), "config".to_owned()];
        let mut table = match self.at(&path) {
            None => toml::Table::new(),
            Some(toml::Value::Table(table)) => table.clone(),
            Some(other) => {
                mistakes.push(self.not_a_table(&path, other));
                toml::Table::new()
            }
        };
        for variable in &self.variables {
            if let Some(key) = variable.rest.strip_prefix(&format!("component_{role}_config_")) {
                let value = match table.get(key) {
                    // The file shows that a text is meant, also where it looks like a number.
                    Some(toml::Value::String(_)) => toml::Value::String(variable.value.clone()),
                    _ => scalar(&variable.value),
                };
                table.insert(key.to_owned(), value);
            }
        }
        table
    }

    /// What `[component]` is, where it is no table.
    pub(super) fn wrong_component_table(&self) -> Option<Mistake> {
        let path = ["component".to_owned()];
        self.at(&path).filter(|value| !value.is_table()).map(|value| self.not_a_table(&path, value))
    }

    /// The place of a path in the file: its own line, or that of the nearest table around it.
    pub(super) fn in_file(&self, path: &[String]) -> Place {
        let line = (0..=path.len()).rev().find_map(|length| self.lines.get(&path[..length])).copied();
        Place::File { path: self.file.clone(), line }
    }

    /// All keys that are given for a section: those in the file first, then those in the environment.
    fn given(&self, section: &str, defaults: &Dict, mistakes: &mut Vec<Mistake>) -> Vec<Given> {
        let mut given = Vec::new();
        let path = split(section);
        match self.at(&path) {
            None => {}
            Some(toml::Value::Table(table)) => self.leaves(&path, &mut Vec::new(), table, defaults, &mut given),
            Some(other) => mistakes.push(self.not_a_table(&path, other)),
        }
        let prefix = format!("{}_", section.replace('.', "_"));
        for variable in &self.variables {
            let Some(key) = variable.rest.strip_prefix(&prefix).filter(|key| !key.is_empty()) else { continue };
            if path.len() == 2 && key.starts_with("config_") {
                continue;
            }
            let path = resolve(key, defaults);
            let default = defaults_at(defaults, &path);
            given.push(Given {
                meanings: meanings(&variable.value, default),
                path,
                place: Place::Variable(variable.name.clone()),
            });
        }
        given
    }

    /// Goes down as far as the defaults have tables, so that each key is tried alone.
    fn leaves(
        &self,
        section: &[String],
        path: &mut Vec<String>,
        table: &toml::Table,
        defaults: &Dict,
        given: &mut Vec<Given>,
    ) {
        for (key, value) in table {
            // The author's own table is read apart.
            if section.len() == 2 && path.is_empty() && key == "config" {
                continue;
            }
            path.push(key.clone());
            match (value, defaults.get(key)) {
                (toml::Value::Table(inner), Some(Value::Dict(_, defaults))) => {
                    self.leaves(section, path, inner, defaults, given);
                }
                _ => given.push(Given {
                    path: path.clone(),
                    meanings: vec![Value::serialize(value).expect("TOML is within what figment holds")],
                    place: self.in_file(&[section, path.as_slice()].concat()),
                }),
            }
            path.pop();
        }
    }

    fn at(&self, path: &[String]) -> Option<&toml::Value> {
        let (last, tables) = path.split_last()?;
        let mut table = &self.table;
        for each in tables {
            table = table.get(each)?.as_table()?;
        }
        table.get(last)
    }

    fn not_a_table(&self, path: &[String], found: &toml::Value) -> Mistake {
        let problem = Problem::Wrong { expected: "a table".to_owned(), found: found.to_string() };
        Mistake { place: self.in_file(path), key: path.join("."), problem }
    }
}

impl Given {
    /// The first of its meanings that can be used, tried alone over the defaults.
    fn choose<T: Section>(&self, section: &str, defaults: &Dict) -> Result<&Value, Problem> {
        let mut refused = None;
        for value in &self.meanings {
            let figment = Figment::from(Serialized::defaults(defaults)).merge(At(&self.path, value));
            match figment.extract::<T>() {
                Ok(_) => return Ok(value),
                Err(error) => refused = Some((error, value)),
            }
        }
        let (error, value) = refused.expect("every given key has a meaning");
        if self.path.last().is_some_and(|key| SECRETS.contains(&key.as_str())) {
            return Err(Problem::Wrong {
                expected: "a text".to_owned(),
                found: "something else (not shown)".to_owned(),
            });
        }
        let around = &self.path[..self.path.len() - 1];
        Err(Problem::from_figment(&error.kind, value, |name| {
            let key = dotted(section, &[around, &[name.to_owned()]].concat());
            match self.place {
                Place::File { .. } => key,
                Place::Variable(_) => variable_of(&key),
            }
        }))
    }
}

impl Provider for At<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("given")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(Map::new()) };
        let nested = rest
            .iter()
            .rev()
            .fold(self.1.clone(), |value, key| Value::Dict(Tag::Default, Dict::from([(key.clone(), value)])));
        Ok(Map::from([(Profile::Default, Dict::from([(first.clone(), nested)]))]))
    }
}

fn split(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

fn dotted(section: &str, path: &[String]) -> String {
    format!("{section}.{}", path.join("."))
}

fn defaults_at<'a>(defaults: &'a Dict, path: &[String]) -> Option<&'a Value> {
    match path {
        [] => None,
        [last] => defaults.get(last),
        [first, rest @ ..] => match defaults.get(first) {
            Some(Value::Dict(_, inner)) => defaults_at(inner, rest),
            _ => None,
        },
    }
}

fn collect_lines(
    path: &mut Vec<String>,
    table: &DeTable<'_>,
    line_of: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<Vec<String>, usize>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_of(key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(path, inner, line_of, lines);
        }
        path.pop();
    }
}
