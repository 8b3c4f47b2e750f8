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
//	    # name_prefix: fit          # where nodes are named fit1, or fit01: then 8 is fit8 or fit08
//	    defaults:                   # of every node
//	      disk: /dev/sda            # selector for the agent; empty: the request's
//	      agent: native             # native or legacy (nodeagent on TCP 9006)
//	      legacy: {port: 9006, connect: dial, any_system: false, nfs: ""}
//	      then: shutdown            # after a load: shutdown, reboot, stay
//	      protected: false          # true: no job may touch the node
//	      power: {driver: bus, timeout: 30s, escalate: 20s}
//	      boot: {driver: none, image: "", args: "", chain: false, checkin: 3m}
//	    groups:                     # of some nodes; a later group wins
//	      old: {nodes: "[1..4,1..4]", disk: /dev/hda, agent: legacy}
//	    nodes:                      # wins over groups
//	      n1-1: {mac: "00:11:22:33:44:55", ip: 10.18.1.1, hostname: node1-1}
//	      console: {protected: true}
//
// power: bus asks omf.v1.svc.<testbed>.power.<node>.<verb>; exec runs command,
// a list of words without a shell in which {node} {action} {testbed} {effect}
// {mac} {ip} are replaced. The other drivers are below. legacy: connect is dial
// (the bridge connects to the agent's port) or listen (the agent connects to the bridge); with any_system
// disks are loaded although the node does not say that it runs the imaging
// system. legacy, power and boot are taken as a whole from the node, else from
// its last group, else from the defaults.
//
// # Power drivers
//
//	power: {driver: bus}                   # a service on the bus: simulator or resident agent
//	power: {driver: exec, command: [/usr/local/bin/power, "{node}", "{action}"]}
//	power: {driver: cmc, form: orbit, url: "http://cmc:5012/cmc"}      # ORBIT's chassis manager; nodes by x and y
//	power: {driver: cmc, form: orbit5, url: …, domain: omf.nicta}      # the same of OMF 5; nodes by hrn
//	power: {driver: cmc, form: card, url: "http://reboot{digits}"}     # a card at each node
//	power: {driver: redfish, url: "https://bmc-{node}", user: admin, password_file: /etc/loadnode/bmc.password}
//	power: {driver: ipmi, host: "bmc-{node}", user: admin, password_env: BMC_PASSWORD}
//	power: {driver: wol, interface: eth1}  # magic packets: on only
//	power: {driver: agent}                 # the node's own agent: soft and reset only
//
// Every driver takes timeout (of one action) and escalate. In url, host and
// system {node} {digits} {x} {y} {ip} stand for the node, {digits} for those at
// the end of its name, so that one line of defaults is enough for a testbed.
//
// redfish also takes auth (basic, or session), system (the path of the
// ComputerSystem; needed where there is more than one), one of fingerprint
// (SHA-256 of the certificate), ca_file and insecure: true, and bootdev (pxe:
// the next start is told to boot from the network once; none: it does so by
// itself). ipmi also takes bootdev and program (/usr/bin/ipmitool). wol takes
// interface and broadcast (address:port).
//
// A password is in a file of its own (password_file, read anew for each action,
// refused if everybody may read it), in the environment of the service
// (password_env), or here (password): then Load refuses an inventory that
// anybody but its owner may read.
//
// legacy: {nfs: "frisbee:/export/images"} has the node save its disk to a file in
// that directory, as OMF 4.4 does (SAVE_IMAGE), in place of piping it through
// netcat; the image service needs the directory as well (omf serve --save-dir).
//
// With legacy: {connect: multicast} agent and bridge meet on two groups: group,
// where agents hear (224.4.0.1:9006), and answers, where they answer
// (224.4.0.2:9002).
//
// Unknown keys, doubled names, MACs, addresses and places are errors. Errors
// name file and line and say what to write.
package inventory
