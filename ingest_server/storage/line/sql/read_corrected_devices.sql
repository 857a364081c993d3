-- Devices that were ever corrected, the number of the newest rule of each, and their revisions under it.
SELECT v.site, v.device, n.device_id, n.number, COALESCE(array_agg(r.profile) FILTER (WHERE r.profile IS NOT NULL), '{}'),
       COALESCE(array_agg(r.revision) FILTER (WHERE r.profile IS NOT NULL), '{}')
  FROM (SELECT device_id, max(number) AS number FROM iot_service.corrections GROUP BY device_id) n
  JOIN iot_service.iot_devices v USING (device_id)
  LEFT JOIN iot_service.correction_revisions r USING (device_id, number)
 GROUP BY v.site, v.device, n.device_id, n.number
