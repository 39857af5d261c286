//! Which DNS name a host's certificate has for its role, and back.

use plugin_api::identity::Role;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

/// Where the role stands in a template.
const ROLE: &str = "{role}";

/// A template such as `{role}.blue.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    before: String,
    after: String,
}

impl Names {
    /// Reads a template; "" is none.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(template: &str) -> Result<Option<Self>, String> {
        if template.is_empty() {
            return Ok(None);
        }
        let wrong =
            || format!("expected a DNS name with {ROLE} in it once, such as {ROLE}.blue.example, found \"{template}\"");
        let (before, after) = template.split_once(ROLE).ok_or_else(wrong)?;
        let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
        let names = Self { before, after };
        let example = names.of(&Role::new("querynode").expect("this is a role"));
        // A name without a dot could be anybody's.
        let good = !names.after.contains(ROLE)
            && example.contains('.')
            && matches!(ServerName::try_from(example.as_str()), Ok(ServerName::DnsName(_)));
        if good { Ok(Some(names)) } else { Err(wrong()) }
    }

    /// The name for this role.
    pub fn of(&self, role: &Role) -> String {
        format!("{}{role}{}", self.before, self.after)
    }

    /// The role that this name is for.
    pub fn role_in(&self, name: &str) -> Option<Role> {
        let name = name.to_ascii_lowercase();
        Role::new(name.strip_prefix(&self.before)?.strip_suffix(&self.after)?).ok()
    }

    /// The roles that a certificate is for.
    pub fn roles_in(&self, names: &[String]) -> Vec<Role> {
        names.iter().filter_map(|name| self.role_in(name)).collect()
    }

    /// The template.
    pub fn template(&self) -> String {
        format!("{}{ROLE}{}", self.before, self.after)
    }
}

/// The DNS names of a certificate.
///
/// # Errors
///
/// Where it cannot be read.
pub fn dns_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    Ok(EndEntityCert::try_from(certificate)?.valid_dns_names().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_in_its_own_name_only() {
        let names = Names::parse("{role}.Blue.example").expect("a template").expect("one");
        let querynode = Role::new("querynode").expect("a role");
        assert_eq!(names.of(&querynode), "querynode.blue.example");
        assert_eq!(names.role_in("QueryNode.blue.example"), Some(querynode));
        for other in
            ["querynode.red.example", ".blue.example", "a.b.blue.example", "*.blue.example", "blue.example", ""]
        {
            assert_eq!(names.role_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_template_has_the_role_once_and_is_a_name() {
        assert_eq!(Names::parse(""), Ok(None));
        for wrong in ["blue.example", "{role}", "{role}.{role}.example", "{role} .example", "{role}..example"] {
            assert!(Names::parse(wrong).is_err(), "{wrong}");
        }
    }
}
