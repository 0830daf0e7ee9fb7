//! What the Swarm tells a machine that is to join: which managers to ask, and with which token.

use crate::model::join::{JoinRole, JoinToken};
use crate::ports::{ErrorReason, PortError};
use bollard::models::{Node, Reachability, Swarm};
use std::net::SocketAddr;

/// From `GET /swarm` and the nodes' `ManagerStatus`. Errors (transient): the Swarm tells no token, or no manager that can be reached.
pub fn answer(role: JoinRole, swarm: Swarm, nodes: &[Node]) -> Result<JoinToken, PortError> {
    let missing = |what: &str| {
        let message = format!("the Swarm tells {what}; is docker.host a healthy manager of it?");
        PortError::transient(ErrorReason::Other, message)
    };
    let tokens = swarm.join_tokens.unwrap_or_default();
    let token = match role {
        JoinRole::Worker => tokens.worker,
        JoinRole::Manager => tokens.manager,
    };
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| missing("no join token"))?;
    let managers: Vec<String> = nodes.iter().filter_map(address).collect();
    if managers.is_empty() {
        Err(missing("no manager that can be reached"))
    } else {
        Ok(JoinToken::new(managers, token))
    }
}

/// Where this node takes those who join, if it is a manager that can be reached.
fn address(node: &Node) -> Option<String> {
    let manager = node.manager_status.as_ref().filter(|it| it.reachability == Some(Reachability::REACHABLE))?;
    let address = manager.addr.clone()?;
    match address.parse::<SocketAddr>() {
        // A manager that listens everywhere and was not told what to advertise: its node's own address is the one that others see.
        Ok(everywhere) if everywhere.ip().is_unspecified() => {
            let seen = node
                .status
                .as_ref()?
                .addr
                .as_ref()?
                .parse()
                .ok()
                .filter(|ip: &std::net::IpAddr| !ip.is_unspecified())?;
            Some(SocketAddr::new(seen, everywhere.port()).to_string())
        }
        // A name, which Docker takes as well as an address.
        _ => Some(address).filter(|address| !address.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{JoinTokens, ManagerStatus, NodeStatus};

    fn manager(addr: &str, reachability: Reachability, seen: &str) -> Node {
        let status = ManagerStatus { addr: Some(addr.into()), reachability: Some(reachability), leader: None };
        let seen = NodeStatus { addr: Some(seen.into()), ..NodeStatus::default() };
        Node { manager_status: Some(status), status: Some(seen), ..Node::default() }
    }

    fn swarm(worker: &str) -> Swarm {
        let join_tokens = JoinTokens { worker: Some(worker.into()), manager: Some("SWMTKN-1-m".into()) };
        Swarm { join_tokens: Some(join_tokens), ..Swarm::default() }
    }

    #[test]
    fn those_who_join_are_sent_to_managers_that_can_be_reached() {
        use Reachability::{REACHABLE, UNREACHABLE};
        let nodes = [
            manager("10.0.0.1:2377", REACHABLE, "10.0.0.1"),
            manager("10.0.0.2:2377", UNREACHABLE, "10.0.0.2"),
            manager("0.0.0.0:2378", REACHABLE, "10.0.0.3"),
            manager("0.0.0.0:2377", REACHABLE, "0.0.0.0"),
            manager("[fd00::4]:2377", REACHABLE, "fd00::4"),
            Node::default(),
        ];
        let told = answer(JoinRole::Worker, swarm("SWMTKN-1-w"), &nodes).expect("there are managers");
        assert_eq!(told.managers, ["10.0.0.1:2377", "10.0.0.3:2378", "[fd00::4]:2377"]);
        assert_eq!(told.expose(), "SWMTKN-1-w");
        assert_eq!(answer(JoinRole::Manager, swarm("SWMTKN-1-w"), &nodes).expect("there are").expose(), "SWMTKN-1-m");
    }

    #[test]
    fn a_swarm_that_tells_too_little_is_an_error_without_a_token_in_it() {
        let nodes = [manager("10.0.0.1:2377", Reachability::REACHABLE, "10.0.0.1")];
        let error = answer(JoinRole::Worker, swarm(""), &nodes).expect_err("no token");
        assert!(error.message.contains("no join token"), "{error}");
        let error = answer(JoinRole::Worker, swarm("SWMTKN-1-w"), &[]).expect_err("no manager");
        assert!(error.message.contains("no manager") && !error.message.contains("SWMTKN"), "{error}");
    }
}
