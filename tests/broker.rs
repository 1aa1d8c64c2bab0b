//! Brokers for tests: virtual hosts of the node that the run shares (`make test` starts it), and nodes that a scenario may
//! stop. Both through `scripts/rabbitmq.sh`.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::private::{free_port, required, run, setting};

/// The node of the whole run, and the folder for `scripts/rabbitmq.sh`.
#[derive(Debug)]
pub struct Shared {
    /// `amqp://user:password@host:port`
    server: String,
    folder: PathBuf,
}

/// The shared node, or `None` when there is none and none is required.
///
/// # Panics
/// If there is none and `ORKESTRA_TEST_REQUIRE` names rabbitmq.
pub fn shared() -> Option<Shared> {
    let (url, folder) = (
        setting("ORKESTRA_TEST_AMQP"),
        setting("ORKESTRA_TEST_RABBITMQ"),
    );
    if let (Some(url), Some(folder)) = (url, folder) {
        let (server, _) = url.rsplit_once('/').unwrap();
        return Some(Shared {
            server: server.into(),
            folder: folder.into(),
        });
    }
    required(
        "rabbitmq",
        "no broker (ORKESTRA_TEST_AMQP, ORKESTRA_TEST_RABBITMQ)",
    );
    None
}

impl Shared {
    /// An empty virtual host of that name.
    pub fn virtual_host(&self, name: &str) -> VirtualHost {
        script(&["vhost"], &self.folder, &[name]);
        VirtualHost {
            url: format!("{}/{name}", self.server),
            name: name.into(),
            folder: self.folder.clone(),
        }
    }
}

/// A virtual host of the shared node, so that a test has every name to itself.
#[derive(Debug)]
pub struct VirtualHost {
    /// Where it is, as guest.
    pub url: String,
    name: String,
    folder: PathBuf,
}

impl VirtualHost {
    /// Where it is over TLS, and the folder of the certificates: `ca.pem`, `client.pem`, `client.key`.
    pub fn over_tls(&self) -> (String, PathBuf) {
        let (login, rest) = self.url.split_once('@').unwrap();
        let (address, path) = rest.split_once('/').unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        let port = port.parse::<u16>().unwrap() + 1;
        let login = login.replace("amqp://", "amqps://");
        let url = format!("{login}@localhost:{port}/{path}");
        (url, self.folder.join("tls"))
    }

    /// The names that clients gave their connections to it.
    pub fn connection_names(&self) -> String {
        let names = format!(
            "lists:flatten([binary_to_list(V) ++ \"; \" || C <- rabbit_connection_tracking:list(<<\"{}\">>), \
             [{{client_properties, P}}] <- [rabbit_networking:connection_info(element(6, C), [client_properties])], \
             {{<<\"connection_name\">>, _, V}} <- P]).",
            self.name
        );
        script(&["eval"], &self.folder, &[&names])
    }

    /// The broker closes every connection to it.
    pub fn close_connections(&self) {
        let close = format!(
            "[rabbit_networking:close_connection(element(6, C), \"closed by a scenario\") \
             || C <- rabbit_connection_tracking:list(<<\"{}\">>)].",
            self.name
        );
        script(&["eval"], &self.folder, &[&close]);
    }

    /// Deletes a queue with what is in it.
    pub fn delete_queue(&self, queue: &str) {
        script(
            &["ctl"],
            &self.folder,
            &["delete_queue", queue, "-p", &self.name],
        );
    }

    /// Deletes an exchange with its bindings.
    pub fn delete_exchange(&self, exchange: &str) {
        let delete = format!(
            "rabbit_exchange:delete(rabbit_misc:r(<<\"{}\">>, exchange, <<\"{exchange}\">>), false, <<\"a test\">>).",
            self.name
        );
        script(&["eval"], &self.folder, &[&delete]);
    }

    /// Takes a binding away.
    pub fn unbind(&self, exchange: &str, queue: &str, key: &str) {
        let resource = |kind, name| {
            format!(
                "rabbit_misc:r(<<\"{}\">>, {kind}, <<\"{name}\">>)",
                self.name
            )
        };
        let unbind = format!(
            "rabbit_binding:remove({{binding, {}, <<\"{key}\">>, {}, []}}, <<\"a test\">>).",
            resource("exchange", exchange),
            resource("queue", queue),
        );
        script(&["eval"], &self.folder, &[&unbind]);
    }

    /// Lets the queues whose names match `pattern` refuse every message, or take them again.
    pub fn refuse(&self, pattern: &str, refuse: bool) {
        let policy = r#"{"max-length":0,"overflow":"reject-publish"}"#;
        let arguments = ["-p", &self.name, "full", pattern, policy];
        if refuse {
            let command = [&["set_policy"], &arguments[..]].concat();
            script(&["ctl"], &self.folder, &command);
        } else {
            script(
                &["ctl"],
                &self.folder,
                &["clear_policy", "-p", &self.name, "full"],
            );
        }
    }

    /// Publishes bytes that are no message of ours.
    pub fn publish(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let body: Vec<_> = body.iter().map(u8::to_string).collect();
        let publish = format!(
            "rabbit_basic:publish(rabbit_misc:r(<<\"{}\">>, exchange, <<\"{exchange}\">>), \
             <<\"{routing_key}\">>, [{{delivery_mode, 2}}], <<{}>>).",
            self.name,
            body.join(","),
        );
        script(&["eval"], &self.folder, &[&publish]);
    }

    /// Messages in a queue, those in somebody's hand too; `None` if there is no such queue.
    pub fn depth(&self, queue: &str) -> Option<u64> {
        // Asked of the queue itself: what the broker lists of a quorum queue is seconds old.
        let count = format!(
            "case rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"{queue}\">>)) of \
             {{ok, Q}} -> case amqqueue:get_type(Q) of \
             rabbit_quorum_queue -> {{ok, {{_, N}}, _}} = ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), N; \
             _ -> [{{messages, N}}] = rabbit_amqqueue:info(Q, [messages]), N end; \
             _ -> none end.",
            self.name
        );
        script(&["eval"], &self.folder, &[&count])
            .trim()
            .parse()
            .ok()
    }
}

/// A node of one test, removed when dropped, and by itself when this process is killed.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Node {
    /// A node that is not started yet: nobody listens on its port.
    pub fn stopped() -> Self {
        Self {
            folder: TempDir::with_prefix("orkestra-scenario-").unwrap(),
            port: free_port(18_000, &[0, 1, 10_000, 10_001]),
        }
    }

    /// A node that accepts connections.
    pub fn started() -> Self {
        let node = Self::stopped();
        node.start();
        node
    }

    /// Where it is, as guest.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.port)
    }

    /// An empty virtual host of that name; its URL.
    pub fn virtual_host(&self, name: &str) -> String {
        script(&["vhost"], self.folder.path(), &[name]);
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.port)
    }

    /// Returns when it accepts connections.
    pub fn start(&self) {
        let (port, owner) = (self.port.to_string(), std::process::id().to_string());
        script(&["start"], self.folder.path(), &[&port, &owner]);
    }

    /// In order: connections are closed, queues are kept.
    pub fn stop(&self) {
        script(&["stop"], self.folder.path(), &[]);
    }

    /// As a power cut does.
    pub fn kill(&self) {
        script(&["kill"], self.folder.path(), &[]);
    }

    /// Sets the part of the machine's memory above which the node blocks publishers. Close to 0 raises the alarm, 0.4 is usual.
    pub fn memory_limit(&self, part: f64) {
        let set = format!("vm_memory_monitor:set_vm_memory_high_watermark({part:.6}).");
        script(&["eval"], self.folder.path(), &[&set]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        script(&["remove"], self.folder.path(), &[]);
    }
}

fn script(command: &[&str], folder: &Path, rest: &[&str]) -> String {
    run("rabbitmq.sh", command, folder, rest)
}
