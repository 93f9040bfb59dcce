use super::{Address, as_segment};

fn read(text: &str) -> Address {
    Address::read(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

#[track_caller]
fn refused(text: &str, says: &str) {
    let problem = Address::read(text).err();
    let problem = problem.unwrap_or_else(|| panic!("{text} was taken"));
    assert!(problem.contains(says), "{text}: {problem}");
    assert!(!problem.contains("s3cret"), "{text}: {problem}");
}

#[test]
fn an_address_leads_to_the_host_it_names() {
    for (text, host, port) in [
        ("amqp://[::1]:5672/", "::1", 5672),
        ("amqp://[::1]", "::1", 5672),
        ("amqps://[2001:db8::7]:5671", "2001:db8::7", 5671),
        ("amqp://u:p@[::ffff:192.0.2.7]:9/%2f", "::ffff:192.0.2.7", 9),
        ("amqp://127.0.0.1", "127.0.0.1", 5672),
        ("amqps://broker.example", "broker.example", 5671),
        ("amqp://broker.example:/", "broker.example", 5672),
        ("AMQP://ho%61st:10000", "hoast", 10000),
        // Underscores are no part of a host's name, and names of containers have them.
        ("amqp://my_broker:1/v", "my_broker", 1),
    ] {
        let text = text.strip_suffix('/').unwrap_or(text);
        let address = read(text);
        assert_eq!((address.host(), address.port()), (host, port), "{text}");
    }
}

#[test]
fn a_virtual_host_is_what_the_specification_says_and_the_empty_one_is_told() {
    for (path, host) in [
        ("", "/"),
        ("/%2f", "/"),
        ("/%2F", "/"),
        ("//", "/"),
        ("/team%20a", "team a"),
        ("/a%2fb", "a/b"),
        ("/%C4%8Debela", "čebela"),
        ("/čebela", "čebela"),
        ("/a+b", "a+b"),
        ("/100%25", "100%"),
    ] {
        assert_eq!(read(&format!("amqp://h{path}")).virtual_host(), host);
    }
    for path in ["/", "/.", "/..", "/?heartbeat=5", "/%2e"] {
        refused(&format!("amqp://h{path}"), "/%2f, or no path");
    }
    refused("amqp://h/a/b", "written %2f");
    refused("amqp://h/a/", "written %2f");
    refused("amqp://h/%ff", "UTF-8");
    refused(&format!("amqp://h/{}", "č".repeat(128)), "255 bytes");
}

#[test]
fn user_and_password_are_decoded_and_guest_where_nobody_is_named() {
    let address = read("amqp://k%40b%2f:p%3a%C4%8D%25@h");
    assert_eq!(address.user(), "k@b/");
    assert_eq!(address.uri().authority.userinfo.password, "p:č%");
    assert_eq!(read("amqp://h").user(), "guest");
    assert_eq!(
        read("amqp://u@h").uri().authority.userinfo.password,
        "guest"
    );
    refused("amqp://u%ff:s3cret@h", "UTF-8");
    refused("amqp://u:s3cret%00@h", "zero byte");
}

#[test]
fn what_leads_nowhere_is_refused_with_what_to_write() {
    for (text, says) in [
        ("amqp://", "host"),
        ("amqp:///%2f", "host"),
        ("amqp://:5672", "host"),
        ("amqp://u:s3cret@/%2f", "host"),
        ("amqp://%20:5672", "host"),
        ("amqp:h", "host"),
        ("http://u:s3cret@h", "amqp://"),
        ("amqp://u:s3cret@[fe80::1%eth0]:5672", "zone"),
        ("amqp://u:s3cret@[fe80::1%25eth0]:5672", "zone"),
        ("amqp://[::g]", "no IPv6 address"),
        ("amqp://::1", "brackets"),
        ("amqp://2001:db8::1:5672", "brackets"),
        ("amqp://%3a%3a1", "brackets"),
        ("amqp://h:70000", "port"),
        ("amqp://h:s3cret", "port"),
        ("amqp://h:0", "port 0"),
        ("amqp://a,b:5672", "one host"),
        ("amqp://a:1,b:2/%2f", "port"),
        // A password with characters that end the host.
        ("amqp://user:12/s3cret@h/%2f", "%2f"),
        ("amqp://user:12?s3cret@h/%2f", "%3f"),
        ("amqp://user:12#s3cret@h/%2f", "%23"),
        ("amqp://h/%2f#s3cret", "%23"),
    ] {
        refused(text, says);
    }
}

#[test]
fn an_argument_is_followed_or_refused_with_the_setting_that_takes_its_place() {
    let address = read(
        "amqps://h/v?heartbeat=30&connection_timeout=5000&channel_max=64&frame_max=65536&auth_mechanism=AMQPLAIN",
    );
    let given = address.uri().query;
    assert_eq!(given.heartbeat, Some(30));
    assert_eq!(given.connection_timeout, Some(5000));
    assert_eq!(given.channel_max, Some(64));
    assert_eq!(given.frame_max, Some(65536));
    assert_eq!(given.auth_mechanism.expect("given").name(), "AMQPLAIN");
    for (arguments, says) in [
        ("cacertfile=/etc/ca.pem", "amqp.ca_file"),
        ("cafile=/etc/ca.pem", "amqp.ca_file"),
        ("verify=verify_none", "amqp.ca_file"),
        ("verify=verify_peer&cacertfile=x", "amqp.ca_file"),
        ("certfile=x", "no certificate of ours"),
        ("password=s3cret", "before the host"),
        (
            "heartbeats=5",
            "`heartbeats`: known arguments are heartbeat",
        ),
        ("foo=s3cret", "`foo`"),
        ("Heartbeat=5", "known arguments"),
        ("s3cret%20x", "an argument that is no name"),
        ("=s3cret", "an argument that is no name"),
        ("heartbeat=5&heartbeat=6", "twice"),
        ("heartbeat=0", "from 1 to 3600"),
        ("heartbeat=", "from 1 to 3600"),
        ("heartbeat=10s", "from 1 to 3600"),
        ("heartbeat=65536", "from 1 to 3600"),
        ("connection_timeout=-1", "whole number"),
        ("channel_max=1", "whole number"),
        ("frame_max=0", "whole number"),
        ("frame_max=99999999999999999999", "whole number"),
        ("auth_mechanism=external", "auth_mechanism"),
        ("auth_mechanism=s3cret", "auth_mechanism"),
    ] {
        refused(&format!("amqps://u:s3cret@h/v?{arguments}"), says);
    }
    // An empty list of arguments is none.
    assert_eq!(read("amqp://h/v?").virtual_host(), "v");
}

#[test]
fn a_name_becomes_one_segment_of_a_path() {
    for name in ["/", "team a", "a/b", "čebela", "100%", "a?b#c"] {
        let segment = as_segment(name);
        assert!(!segment.contains(['/', ' ', '?', '#', '.']), "{segment}");
        let url = format!("http://h/api/queues/{segment}/x");
        let url = url::Url::parse(&url).expect("an address");
        assert_eq!(url.path_segments().expect("a path").count(), 4, "{url}");
    }
}
