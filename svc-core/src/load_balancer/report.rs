//! A provider that gives nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::request::Request;
use super::{Answer, Provider};
use crate::name::NamespacedName;
use crate::object::Service;

/// Collects what it would ask of a load balancer, and leaves every Service as it is.
///
/// ```
/// use svc_core::load_balancer::{Provider, Report};
/// use svc_core::object::{Service, ServiceType};
/// use svc_core::NamespacedName;
///
/// let mut web = Service::named(NamespacedName::new("default", "web"));
/// web.service_type = ServiceType::LoadBalancer;
/// let mut report = Report::default();
/// report.ensure(&web);
/// let text = report.requests().next().map(ToString::to_string);
/// assert!(text.is_some_and(|text| text.starts_with("load balancer for default/web, IPv4\n")));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    requests: BTreeMap<NamespacedName, Request>,
}

impl Report {
    /// What is asked for, by Service.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }
}

impl Provider for Report {
    fn resume(&mut self, _: &Service) {}

    fn ensure(&mut self, service: &Service) -> Answer {
        let (request, diagnostics) = Request::of(service);
        match request {
            Some(request) => {
                self.requests.insert(service.name.clone(), request);
                let ingress: Vec<_> = service.ingress.clone();
                Answer::Ingress(ingress, diagnostics)
            }
            None => {
                self.release(&service.name);
                Answer::NotMine
            }
        }
    }

    fn release(&mut self, service: &NamespacedName) {
        self.requests.remove(service);
    }
}
