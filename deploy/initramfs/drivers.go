package main

// drivers are the modules of the default set: controllers that machines in
// racks of the last twenty years have between them and their network and
// disks. Which of them a kernel has differs; what it lacks is left out.
func drivers() []string {
	return []string{
		// Networks of virtual machines.
		"virtio_net", "virtio_pci", "virtio_mmio", "vmxnet3", "hv_netvsc", "xen-netfront", "ena", "gve", "pcnet32", "8139cp", "8139too",
		// Networks of real ones.
		"e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf", "i40e", "iavf", "e100",
		"r8169", "tg3", "bnx2", "bnx2x", "bnxt_en", "b44", "mlx4_en", "mlx5_core", "be2net", "forcedeth", "sky2", "skge",
		"via-rhine", "via-velocity", "alx", "atl1c", "atl1e", "jme", "atlantic", "cxgb4", "sfc",
		"dwmac-generic", "macb", "genet", "nicvf", "hns3", "xgene-enet", // of arm64
		// Disks of virtual machines.
		"virtio_blk", "virtio_scsi", "vmw_pvscsi", "hv_storvsc", "xen-blkfront", "sym53c8xx",
		// Disks of real ones.
		"sd_mod", "ahci", "ahci_platform", "ata_piix", "ata_generic", "pata_acpi", "pata_via", "pata_amd", "pata_jmicron", "pata_atiixp", "pata_marvell",
		"sata_via", "sata_nv", "sata_sil", "sata_sil24", "sata_mv", "sata_promise", "sata_svw", "sata_sis", "sata_uli",
		"nvme", "vmd", "megaraid_sas", "mpt3sas", "mptsas", "mptspi", "aacraid", "hpsa", "smartpqi", "isci", "mvsas", "pm80xx", "3w-9xxx", "3w-sas", "arcmsr",
		"mmc_block", "sdhci-pci", "sdhci-acpi",
		"usb-storage", "uas", "xhci-pci", "ehci-pci", "uhci-hcd", "ohci-pci",
		// What is done to a disk that was loaded.
		"loop", "ext4", "vfat", "xfs", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "crc32c_generic", "crc32c-intel",
	}
}

// everything are the directories of the kernel's drivers that --all takes
// besides.
func everything() []string {
	return []string{
		"drivers/net/ethernet", "drivers/net/phy", "drivers/net/mdio", "drivers/net/hyperv", "drivers/net/usb", "drivers/virtio", "drivers/hv", "drivers/xen",
		"drivers/ata", "drivers/scsi", "drivers/nvme/host", "drivers/block", "drivers/message/fusion", "drivers/mmc", "drivers/usb/storage", "drivers/usb/host",
		"drivers/pci/controller",
	}
}
