//! Who is answered: the token, the machine, the Host and the Origin.

use super::*;

#[tokio::test]
async fn the_api_wants_the_token() {
    let desk = desk(ApiAccess::new(true, Some(&Secret::new(None, CANARY.into()))));
    assert!(format!("{:?}", desk.admin).contains("(Token)"), "not even the digest is shown");
    for path in ["/api/v1/sources", "/api/v1/rejections", "/api/v1/reload", "/api/v1/events", "/api/", "/api"]
    {
        let answer = desk.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(
            (answer.status, &answer.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap()),
            "{path}"
        );
    }
    let right = format!("Bearer {CANARY}");
    for (value, status) in [
        (right.clone(), 200),
        (format!("bearer  {CANARY}"), 200),
        (CANARY.to_owned(), 401),
        (format!("Basic {CANARY}"), 401),
        (format!("{right}x"), 401),
        (right[..right.len() - 1].to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("Bearer".to_owned(), 401),
    ] {
        assert_eq!(desk.status("GET /api/v1/sources", &[("authorization", &value)]).await, status, "{value}");
    }
    let twice = [("authorization", &*right), ("authorization", "Bearer x")];
    assert_eq!(desk.status("GET /api/v1/sources", &twice).await, 401);
    let remote = request("GET /api/v1/sources", &[("authorization", &right)]);
    assert_eq!(desk.send("10.0.0.1:5000", remote).await.status, 200, "with the token from anywhere");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(desk.status(&format!("GET {path}"), &[]).await, 200, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_the_api_is_for_this_machine_alone() {
    let open = desk(ApiAccess::new(true, None));
    for (peer, status) in [
        ("127.0.0.1:5", 200),
        ("[::1]:5", 200),
        ("[::ffff:127.0.0.1]:5", 200),
        ("10.0.0.1:5", 403),
        ("[fe80::1]:5", 403),
    ] {
        assert_eq!(open.send(peer, request("GET /api/v1/sources", &[])).await.status, status, "{peer}");
        assert_eq!(open.send(peer, request("GET /readyz", &[])).await.status, 200, "{peer}");
    }
    let off = desk(ApiAccess::new(false, Some(&Secret::new(None, CANARY.into()))));
    let bearer = format!("Bearer {CANARY}");
    for line in ["GET /api/v1/sources", "POST /api/v1/reload"] {
        assert_eq!(off.status(line, &[("authorization", &bearer)]).await, 404, "{line}");
    }
}

#[tokio::test]
async fn only_literal_hosts_are_served() {
    let desk = desk(ApiAccess::Loopback);
    for host in
        ["127.0.0.1", "127.0.0.1:1", "10.1.2.3:9600", "[::1]", "[fe80::1]:9600", "localhost", "LocalHost:80"]
    {
        assert_eq!(desk.status("GET /api/v1/sources", &[("host", host)]).await, 200, "{host}");
    }
    let names = [
        "evil.example",
        "evil.example:9600",
        "127.0.0.1.nip.io",
        "localhost.evil",
        "localhost@evil",
        "x@::1",
    ];
    let broken =
        ["", "[::1", "::1", "127.1", "2130706433", "127.0.0.1:9600, evil", "a@127.0.0.1", "localhost/"];
    for host in names.into_iter().chain(broken) {
        for line in ["GET /api/v1/sources", "GET /", "POST /api/v1/reload"] {
            assert_eq!(desk.status(line, &[("host", host)]).await, 421, "{line} {host}");
        }
    }
    let two = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
    for uri in ["/api/v1/sources", "http://127.0.0.1/api/v1/sources"] {
        assert_eq!(desk.status(&format!("GET {uri}"), &two).await, 421, "{uri}");
    }
    let mut none = request("GET /api/v1/sources", &[]);
    none.headers_mut().clear();
    assert_eq!(desk.send("127.0.0.1:5", none).await.status, 421);

    // HTTP/2 and the absolute form name the host in the URI.
    for (uri, host, status) in [
        ("http://127.0.0.1:9600", None, 200),
        ("http://evil.example:9600", None, 421),
        ("http://127.0.0.1:9600", Some("evil.example:9600"), 421),
        ("http://evil.example:9600", Some("127.0.0.1:9600"), 421),
    ] {
        let mut request = request(&format!("GET {uri}/api/v1/sources"), &[]);
        request.headers_mut().clear();
        request.headers_mut().extend(host.map(|host| (http::header::HOST, host.parse().unwrap())));
        assert_eq!(desk.send("127.0.0.1:5", request).await.status, status, "{uri} {host:?}");
    }
}

#[tokio::test]
async fn other_sites_pages_change_nothing() {
    let mut desk = desk(ApiAccess::Loopback);
    desk.reloads.close();
    let (let_in, refused) = (503, 403);
    for (headers, status) in [
        (vec![], let_in),
        (vec![("origin", "http://127.0.0.1:9600")], let_in),
        (vec![("origin", "http://127.0.0.1:9600"), ("sec-fetch-site", "same-origin")], let_in),
        (vec![("sec-fetch-site", "none")], let_in),
        (vec![("origin", "http://127.0.0.1:9601")], refused),
        (vec![("origin", "http://localhost:9600")], refused),
        (vec![("origin", "https://evil.example")], refused),
        (vec![("origin", "null")], refused),
        (vec![("origin", "")], refused),
        (vec![("origin", "127.0.0.1:9600")], refused),
        (vec![("origin", "http://127.0.0.1:9600"), ("origin", "http://evil.example")], refused),
        (vec![("sec-fetch-site", "cross-site")], refused),
        (vec![("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:9600")], refused),
    ] {
        assert_eq!(desk.status("POST /api/v1/reload", &headers).await, status, "{headers:?}");
    }
}
