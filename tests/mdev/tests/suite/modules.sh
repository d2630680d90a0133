#!/bin/bash
# The kernel's sample drivers and what they need, in a root of Debian's packages:  modules.sh VERSION
#
# Run in that root. Leaves /modules with the modules, not compressed, and their order in /modules/order.
set -euo pipefail

version=$1
# Links that the packages' scripts would make.
ln -sf gawk /usr/bin/awk
mknod -m 666 /dev/null c 1 3 2>/dev/null || true
mkdir -p /build /modules
# Of the kernel's source no more than these two drivers.
xz -dcT0 /usr/src/linux-source-*.tar.xz |
    tar -x -C /build --strip-components=3 --wildcards '*/samples/vfio-mdev/mbochs.c' '*/samples/vfio-mdev/mdpy.c' '*/samples/vfio-mdev/mdpy-defs.h'
echo 'obj-m := mbochs.o mdpy.o' >/build/Makefile
make -C "/usr/src/linux-headers-$version" M=/build modules >/build/log 2>&1 || { cat /build/log >&2; exit 1; }
cp /build/*.ko "/lib/modules/$version/"
depmod "$version"
: >/modules/order
for module in virtio_pci 9p 9pnet_virtio overlay vgem vfio_iommu_type1 mbochs mdpy; do
    modprobe --set-version "$version" --show-depends "$module"
done | while read -r what file _; do
    name=$(basename "${file%.xz}")
    [ "$what" = insmod ] && [ ! -e "/modules/$name" ] || continue
    case $file in
    *.xz) xz -dc "$file" >"/modules/$name" ;;
    *) cp "$file" "/modules/$name" ;;
    esac
    echo "$name" >>/modules/order
done
