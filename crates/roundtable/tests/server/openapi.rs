//! The document of the operator's interface is true: what it names is served, and nothing else is.

use roundtable::auth::first_start::FirstCredentials;
use roundtable::server::Server;
use serde_json::Value;

use super::{call, config};

const VERBS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[tokio::test]
async fn every_path_and_method_of_the_document_is_served_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path())).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    let token = FirstCredentials::read(dir.path()).unwrap().unwrap().admin_token;
    let walk = move || {
        let (status, text) = call(address, ("GET", "/openapi.json"), "", "");
        assert_eq!(status, 200, "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 20, "{} paths", paths.len());
        for (path, item) in paths {
            let real =
                path.replace("{connection}", "1").replace("{id}", "nobody").replace("{name}", "nobody");
            for verb in VERBS {
                let documented = item.get(verb.to_lowercase()).is_some();
                if documented && real.ends_with("/tail") {
                    continue; // It has no end.
                }
                let (status, answer) = call(address, (verb, &real), &token, "");
                let responses = &item[verb.to_lowercase()]["responses"];
                if documented {
                    let elsewhere = format!("{real}?workspace=nope");
                    let (status, answer) = call(address, (verb, &elsewhere), &token, "");
                    assert!(
                        !responses[status.to_string()].is_null(),
                        "{verb} {elsewhere} answers {status}, which the document does not name: {answer}"
                    );
                    let parameters = item[verb.to_lowercase()]["parameters"].as_array().unwrap();
                    if parameters.iter().all(|parameter| parameter["name"] != "workspace") {
                        assert!(!answer.contains("there is no workspace"), "{verb} {elsewhere}: {answer}");
                    }
                }
                match status {
                    405 => assert!(!documented, "{verb} {path} is in the document"),
                    _ => assert!(documented, "{verb} {path} answers {status} and is not in the document"),
                }
                assert!(
                    !documented || !responses[status.to_string()].is_null(),
                    "{verb} {path} answers {status}, which the document does not name: {answer}"
                );
                assert!(!answer.contains("there is no such path"), "{verb} {path}");
            }
        }
        let reference = |text: &str| text.matches("#/components/schemas/").count();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(reference(&text) > schemas.len());
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "the document refers to {name} and has it not");
        }
        assert_eq!(call(address, ("GET", "/admin/v1/nothing"), &token, "").0, 404);
    };
    tokio::task::spawn_blocking(walk).await.unwrap();
    server.stop().await;
}
