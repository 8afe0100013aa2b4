import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Registers, renews and lists with the JDK's client, which offers HTTP/2 with each request. */
public class JavaClient {
    static HttpClient client = HttpClient.newHttpClient();
    static String url;

    static void send(String method, String path, String body) throws Exception {
        var publisher = body == null
            ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body);
        var request = HttpRequest.newBuilder(URI.create(url + path)).method(method, publisher).build();
        var response = client.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(method + " " + response.statusCode() + " " + response.version());
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        for (int i = 0; i < 20; i++) {
            String path = "/v1/instances/orders/java-" + i;
            send("PUT", path, "{\"ip\": \"10.0.0.7\", \"port\": 8000, \"metadata\": {\"n\": \"" + i + "\"}}");
            send("POST", path + "/renew", null);
        }
        send("GET", "/v1/instances/orders", null);
        send("DELETE", "/v1/instances/orders/java-0", null);
    }
}
