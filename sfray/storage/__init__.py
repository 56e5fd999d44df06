"""Places: URIs, folders of write-once objects, leases, patience."""
