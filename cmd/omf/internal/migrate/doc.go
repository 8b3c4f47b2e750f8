// Package migrate turns what configured an OMF or a rhubarbe testbed into an
// inventory and into settings of the omf command. It reads
//
//   - the YAML of OMF's services (frisbee.yaml, pxe.yaml, cmc.yaml,
//     inventory.yaml; omf-legacy b): <service>: {testbed: {<name>: {key: value}}}
//   - topology files with defTopology (omf-legacy c.3)
//   - rhubarbe's inventory of nodes: a JSON list of
//     {cmc: …, control: {hostname, ip, mac}, data: …}
//
// Nothing is evaluated and no file is opened or written here. Whatever is read
// ends up in the result or in the list of what was left out, with the reason.
package migrate
