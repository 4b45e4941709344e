use serde_json::{Value, json};

use super::*;

fn slice(name: &str, version: &str, endpoints: Value) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]})
}

fn pod(name: &str, address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": name}})
}

fn listed(items: Value) -> Slices {
    let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
    Slices::listed(list.to_string().as_bytes()).unwrap()
}

fn hear(slices: &mut Slices, kind: &str, object: &Value) -> Step {
    let event = json!({"type": kind, "object": object}).to_string();
    slices.heard(event.as_bytes()).unwrap()
}

fn seen(slices: &Slices) -> Vec<(String, String)> {
    let backends = slices.backends(None, &Template::default());
    let named = backends.into_iter().map(|b| (b.name.unwrap(), b.url));
    named.collect()
}

fn at(name: &str, url: &str) -> (String, String) {
    (name.to_owned(), url.to_owned())
}

#[test]
fn events_add_change_and_take_away() {
    let mut slices = listed(json!([slice("a", "5", json!([pod("gpu-0", "10.0.0.1")]))]));
    assert_eq!(slices.version, "7");
    let more = slice("b", "8", json!([pod("gpu-1", "10.0.0.2")]));
    assert_eq!(hear(&mut slices, "ADDED", &more), Step::Changed);
    assert_eq!(
        seen(&slices),
        [
            at("gpu-0", "http://10.0.0.1:8080"),
            at("gpu-1", "http://10.0.0.2:8080")
        ]
    );
    let moved = slice("a", "9", json!([pod("gpu-0", "10.0.0.9")]));
    hear(&mut slices, "MODIFIED", &moved);
    let gone = slice("b", "10", Value::Null);
    hear(&mut slices, "DELETED", &gone);
    assert_eq!(seen(&slices), [at("gpu-0", "http://10.0.0.9:8080")]);
    assert_eq!(slices.version, "10");
    let bookmark = json!({"kind": "EndpointSlice", "metadata": {"resourceVersion": "20"}});
    assert_eq!(hear(&mut slices, "BOOKMARK", &bookmark), Step::Moved);
    assert_eq!(slices.version, "20");
}

#[test]
fn what_is_too_old_is_listed_anew_and_other_errors_are_told() {
    let mut slices = listed(json!([]));
    let gone = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
    assert_eq!(hear(&mut slices, "ERROR", &gone), Step::Expired);
    let other = json!({"kind": "Status", "code": 500, "message": "etcd"});
    assert_eq!(
        hear(&mut slices, "ERROR", &other),
        Step::Refused("etcd".to_owned())
    );
    assert!(slices.heard(b"{\"type\":\"ADDED\"").is_err());
}

#[test]
fn pods_that_terminate_leave_and_those_not_ready_stay() {
    let mut loading = pod("gpu-0", "10.0.0.1");
    loading["conditions"] = json!({"ready": false, "serving": false, "terminating": false});
    let mut leaving = pod("gpu-1", "10.0.0.2");
    leaving["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    let slices = listed(json!([slice("a", "1", json!([loading, leaving]))]));
    assert_eq!(seen(&slices), [at("gpu-0", "http://10.0.0.1:8080")]);
}

#[test]
fn a_pod_of_two_families_is_one_backend() {
    let v6 = slice("a-v6", "1", json!([pod("gpu-0", "fd00::1")]));
    let v4 = slice("b-v4", "1", json!([pod("gpu-0", "10.0.0.1")]));
    assert_eq!(
        seen(&listed(json!([v6.clone(), v4]))),
        [at("gpu-0", "http://10.0.0.1:8080")]
    );
    assert_eq!(
        seen(&listed(json!([v6]))),
        [at("gpu-0", "http://[fd00::1]:8080")]
    );
}

#[test]
fn a_port_is_chosen_by_name() {
    let mut slice = slice("a", "1", json!([{"addresses": ["10.0.0.1"]}]));
    slice["ports"] = json!([{"name": "metrics", "port": 9}, {"name": "http", "port": 80}]);
    let slices = listed(json!([slice]));
    let of = |port| {
        let backends = slices.backends(port, &Template::default());
        backends.first().map(|b| b.url.clone())
    };
    assert_eq!(of(Some("http")).as_deref(), Some("http://10.0.0.1:80"));
    assert_eq!((of(None), of(Some("none"))), (None, None));
}
