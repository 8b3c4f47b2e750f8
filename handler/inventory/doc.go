// Package inventory reads the inventory file: which testbeds there are, which
// nodes they have, and how each node is powered, booted and loaded. It holds
// the file format, its checks, and the view that node sets are resolved
// against.
//
// It does not know the state of a node (leases, jobs, power): that is the
// handler's. It reads once; who wants to follow changes loads again.
//
// # The file
//
//	version: 1
//	testbeds:
//	  default:
//	    grid: {x: 20, y: 20}        # makes the nodes n1-1 … n20-20
//	    name_prefix: fit            # node 8 is fit8 or fit08
//	    defaults:                   # of every node
//	      disk: /dev/sda            # selector for the agent; empty: the request's
//	      agent: native             # native or legacy (nodeagent on TCP 9006)
//	      legacy: {port: 9006, connect: dial, any_system: false}
//	      then: shutdown            # after a load: shutdown, reboot, stay
//	      protected: false          # true: no job may touch the node
//	      power: {driver: bus, timeout: 30s, escalate: 20s}
//	      boot: {driver: none, image: "", args: "", checkin: 3m}
//	    groups:                     # of some nodes; a later group wins
//	      old: {nodes: "[1..4,1..4]", disk: /dev/hda, agent: legacy}
//	    nodes:                      # wins over groups
//	      n1-1: {mac: "00:11:22:33:44:55", ip: 10.18.1.1, hostname: node1-1}
//	      console: {protected: true}
//
// power: bus asks omf.v1.svc.<testbed>.power.<node>.<verb>; exec runs command,
// a list of words without a shell in which {node} {action} {testbed} {effect}
// {mac} {ip} are replaced. legacy: connect is dial (the bridge connects to the
// agent's port) or listen (the agent connects to the bridge); with any_system
// disks are loaded although the node does not say that it runs the imaging
// system. legacy, power and boot are taken as a whole from the node, else from
// its last group, else from the defaults.
//
// With legacy: {connect: multicast} agent and bridge meet on two groups: group,
// where agents hear (224.4.0.1:9006), and answers, where they answer
// (224.4.0.2:9002).
//
// Unknown keys, doubled names, MACs, addresses and places are errors. Errors
// name file and line and say what to write.
package inventory
