// The payload that every side carries: about 200 bytes as JSON, the one of python/_shop.py.

const NOTES = "leave it with the neighbour on the left, ring twice; ".repeat(2);

/** Returns the fields of order `number`. */
export function payload(number) {
  return {
    order_id: `order-${String(number).padStart(8, "0")}-${String((number * 7919) % 999983).padStart(6, "0")}`,
    product_id: "sku_42",
    quantity: 3,
    notes: NOTES,
  };
}
